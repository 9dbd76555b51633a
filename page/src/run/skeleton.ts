import { get } from "../api/client";
import type { SkeletonPage } from "../api/types";

/** So few that something is to be seen at once, however long the run is. */
const FIRST_PAGE = 500;

/** All pages of a run; the server works at the next one while a page is taken in. */
export async function* skeletonPages(taskId: string, signal: AbortSignal): AsyncGenerator<SkeletonPage> {
  const read = (after: string | null) =>
    get<SkeletonPage>(
      "run/skeleton",
      { task_id: taskId, after, limit: after === null ? FIRST_PAGE : null },
      signal,
    );
  let coming: Promise<SkeletonPage> | null = read(null);
  while (coming !== null) {
    const page: SkeletonPage = await coming;
    coming = page.next === null ? null : read(page.next);
    coming?.catch(() => {}); // it is reported when it is awaited
    yield page;
  }
}
