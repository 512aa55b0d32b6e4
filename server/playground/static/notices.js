// Messages: a note at the bottom, a banner at the top, and a live region for screen readers.
const SECONDS_SHOWN = 6;

const toast = document.getElementById("toast");
const announcer = document.getElementById("announcer");
const banner = document.getElementById("away");
let hiding = 0;

/** Display a note for a few seconds. Screen readers read it out too. */
export function note(sentence) {
  toast.textContent = sentence;
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), SECONDS_SHOWN * 1000);
}

/** Send a sentence to screen readers only. */
export function announce(sentence) {
  announcer.textContent = sentence;
}

/** Display a sentence in the banner at the top. An empty sentence hides the banner. */
export function showBanner(sentence) {
  banner.textContent = sentence;
  banner.hidden = !sentence;
}
