// The card of a drawing: its prompt, its progress, and a tile for each picture.
import { makePicture } from "./picture.js";

const templates = { drawing: document.getElementById("drawing-template"), tile: document.getElementById("tile-template") };
const pictures = new WeakMap(); // tile -> picture

/** Return the picture of the tile that contains an element. */
export function pictureOf(element) {
  return pictures.get(element.closest(".tile"));
}

/** Return all tiles that show a finished picture, in the page's order. */
export function finishedTiles() {
  return [...document.querySelectorAll(".tile[data-state=done]")];
}

export class Card {
  constructor(record) {
    this.element = templates.drawing.content.firstElementChild.cloneNode(true);
    this.record = record;
    this.percents = [];
    this.find("h3 button").textContent = record.asked.text;
    this.find(".meta").textContent = describe(record);
    const title = `drawing-${record.id}`;
    this.find("h3").id = title;
    this.element.setAttribute("aria-labelledby", title);
    this.find("progress").setAttribute("aria-labelledby", title);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Add a tile for each picture, and show the pictures that are already finished. */
  layTiles() {
    this.release();
    const { asked, images } = this.record;
    this.percents = Array.from({ length: asked.num_images }, (_, i) => (images[i] ? 100 : 0));
    this.find(".tiles").classList.toggle("fives", [5, 9, 10].includes(asked.num_images)); // in rows of five, not four
    this.find(".tiles").replaceChildren(...this.percents.map(() => templates.tile.content.firstElementChild.cloneNode(true)));
    images.forEach((image, index) => image && this.finish(index, image));
  }

  /** Remove the tiles of pictures that are not finished. */
  dropUnfinished() {
    for (const tile of this.element.querySelectorAll(".tile:not([data-state=done])")) tile.remove();
  }

  /** Display the drawing's state and a sentence about it. `acts` are the actions whose buttons are shown. */
  show(state, sentence, acts) {
    this.element.dataset.state = state;
    this.find(".sentence").textContent = sentence;
    const focused = document.activeElement;
    for (const button of this.element.querySelectorAll(".drawing-acts button")) {
      button.hidden = !acts.includes(button.dataset.act);
    }
    const progress = this.find("progress");
    progress.hidden = state !== "drawing" && state !== "waiting";
    if (state === "waiting") progress.removeAttribute("value");
    // The focused button is now hidden: keep the focus in this drawing.
    if (this.element.contains(focused) && focused.hidden) this.find(".drawing-acts button:not([hidden])")?.focus();
  }

  /** Display a picture's progress in percent. Return the progress of the whole drawing. */
  advance(index, percent) {
    this.percents[index] = percent;
    this.tile(index).style.setProperty("--percent", percent);
    const whole = Math.floor(this.percents.reduce((sum, each) => sum + each, 0) / this.percents.length);
    this.find("progress").value = whole;
    return whole;
  }

  preview(index, percent, source) {
    const image = this.tile(index).querySelector("img");
    image.src = source;
    image.hidden = false;
    this.tile(index).style.setProperty("--shown", percent);
    this.tile(index).dataset.state = "preview";
  }

  finish(index, file) {
    const tile = this.tile(index);
    const picture = makePicture(this.record.asked, index, file);
    pictures.set(tile, picture);
    const image = tile.querySelector("img");
    Object.assign(image, { src: picture.url, alt: picture.alt, hidden: false, loading: "lazy" });
    const enlarge = tile.querySelector(".open");
    enlarge.disabled = false;
    enlarge.setAttribute("aria-label", `Enlarge. ${picture.alt}, seed ${picture.seed}`);
    tile.querySelector(".seed").textContent = `seed ${picture.seed}`;
    tile.querySelector(".tile-acts").hidden = false;
    tile.dataset.state = "done";
    this.advance(index, 100);
  }

  /** Release the object URLs of the pictures that are shown. */
  release() {
    for (const tile of this.element.querySelectorAll(".tile[data-state=done]")) URL.revokeObjectURL(pictures.get(tile).url);
  }

  remove() {
    this.release();
    this.element.remove();
  }

  tile(index) {
    return this.find(".tiles").children[index];
  }
}

function describe({ asked, model, time }) {
  const when = new Date(time);
  const isToday = when.toDateString() === new Date().toDateString();
  const said = [
    asked.num_images === 1 ? "1 picture" : `${asked.num_images} pictures`,
    asked.negative_prompt && `without “${asked.negative_prompt}”`,
    asked.best_of !== undefined && `best of ${asked.best_of}`,
    asked.temperature !== undefined && `temperature ${asked.temperature}`,
    asked.top_k !== undefined && `top-k ${asked.top_k}`,
    asked.supercondition_factor !== undefined && `guidance ${asked.supercondition_factor}`,
    model,
    when.toLocaleString([], isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" }),
  ];
  return said.filter(Boolean).join(" · ");
}
