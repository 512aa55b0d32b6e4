// Keep small texts until this tab is closed; also where the browser's storage is switched off, until the page is left.
const PREFIX = "dalle-";
const fallback = new Map();

/** Keep a text under a name. */
export function keep(name, text) {
  fallback.set(name, text);
  try {
    sessionStorage.setItem(PREFIX + name, text);
  } catch {} // storage is off or full: `fallback` has it
}

/** Give what is kept under a name; an empty text where nothing is. */
export function recall(name) {
  try {
    return sessionStorage.getItem(PREFIX + name) ?? fallback.get(name) ?? "";
  } catch {
    return fallback.get(name) ?? "";
  }
}
