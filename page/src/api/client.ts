// Asks the read API. Addresses are relative, so that the page works wherever it is mounted.

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** An answer that is no success, with what the server says of it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** The query string of these parameters; lists are repeated, what is empty is left out. */
export function queryString(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) parameters.append(name, String(one));
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

export function address(path: string, query: Query = {}): string {
  return `api/${path}${queryString(query)}`;
}

/** Retries a server that has no time for it (503) for as long as it asks us to wait, three times at most. */
export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(address(path, query), { signal: signal ?? null });
    if (response.ok) return (await response.json()) as T;
    if (response.status !== 503 || attempt >= 3) throw await errorOf(response);
    await pause(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, 10), signal);
  }
}

export async function post<T>(path: string, body: unknown): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(address(path), { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw await errorOf(response);
  return (await response.json()) as T;
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    return new ApiError(response.status, error.code, error.message);
  } catch {
    return new ApiError(response.status, "http", `${response.status} ${response.statusText}`);
  }
}

function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
