// Small texts that are kept until this tab is closed; without the browser's storage, until the page is closed.
const PREFIX = "dalle-";
const fallback = new Map();

/** Save a text under a name. */
export function keep(name, text) {
  fallback.set(name, text);
  try {
    sessionStorage.setItem(PREFIX + name, text);
  } catch {} // storage is off or full: `fallback` has it
}

/** Return the text saved under a name, or an empty one. */
export function recall(name) {
  try {
    return sessionStorage.getItem(PREFIX + name) ?? fallback.get(name) ?? "";
  } catch {
    return fallback.get(name) ?? "";
  }
}
