// One picture, large; the arrow keys go to its neighbours, also those of other drawings.
import { finishedTiles, pictureOf } from "./card.js";

const viewer = document.getElementById("viewer");
const image = document.getElementById("viewer-image");
let tile = null;

/** Enlarge a tile's picture. */
export function enlarge(of) {
  show(of);
  viewer.showModal();
}

/** Give the picture that is shown large. */
export function shownPicture() {
  return pictureOf(tile);
}

/** Close; the focus goes to the tile whose picture was shown last. */
export function closeViewer() {
  viewer.close();
}

/** Go to the next picture, or with -1 to the previous one. */
export function step(by) {
  const tiles = finishedTiles();
  const next = tiles[tiles.indexOf(tile) + by];
  if (next) show(next);
}

function show(of) {
  tile = of;
  const picture = pictureOf(tile);
  Object.assign(image, { src: picture.url, alt: picture.alt });
  document.getElementById("viewer-prompt").textContent = picture.asked.text;
  document.getElementById("viewer-seed").textContent = `seed ${picture.seed}`;
  const tiles = finishedTiles();
  viewer.querySelector("[data-act=previous]").disabled = tile === tiles[0];
  viewer.querySelector("[data-act=next]").disabled = tile === tiles.at(-1);
}

viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) closeViewer(); // beside the picture
});
viewer.addEventListener("close", () => tile?.querySelector(".open").focus());
