// Say things: to eyes in a note at the bottom or the banner at the top, to screen readers in a live region.
const SECONDS_SHOWN = 6;

const toast = document.getElementById("toast");
const announcer = document.getElementById("announcer");
const banner = document.getElementById("away");
let hiding = 0;

/** Show a note for a while; screen readers say it too. */
export function note(sentence) {
  toast.textContent = sentence;
  toast.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), SECONDS_SHOWN * 1000);
}

/** Say something to screen readers only. */
export function announce(sentence) {
  announcer.textContent = sentence;
}

/** Show a sentence at the top until it is taken back with an empty one. */
export function showBanner(sentence) {
  banner.textContent = sentence;
  banner.hidden = !sentence;
}
