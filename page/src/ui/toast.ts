// A short word on what was done, for eyes and for screen readers.

const SHOWN_MS = 2500;
let timer = 0;

export function toast(text: string): void {
  let place = document.querySelector<HTMLElement>(".toast");
  if (place === null) {
    place = document.createElement("div");
    place.className = "toast";
    place.setAttribute("role", "status");
    document.body.append(place);
  }
  place.textContent = text;
  place.classList.add("shown");
  clearTimeout(timer);
  timer = window.setTimeout(() => place.classList.remove("shown"), SHOWN_MS);
}
