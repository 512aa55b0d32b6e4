// The viewer: one enlarged picture. The arrow keys move to its neighbours, those of other drawings included.
import { finishedTiles, pictureOf } from "./card.js";

const viewer = document.getElementById("viewer");
const image = document.getElementById("viewer-image");
let tile = null;

/** Display a tile's picture enlarged. */
export function enlarge(of) {
  show(of);
  viewer.showModal();
}

/** Return the picture that is shown. */
export function shownPicture() {
  return pictureOf(tile);
}

/** Close the viewer. The focus moves to the tile of the last picture shown. */
export function closeViewer() {
  viewer.close();
}

/** Display the next picture, or the previous one if `by` is -1. */
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
  if (event.target === viewer) closeViewer(); // on the backdrop, outside the picture
});
viewer.addEventListener("close", () => tile?.querySelector(".open").focus());
