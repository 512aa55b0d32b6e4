// The life of a drawing: requested, queued, drawn, then done, cancelled or failed; restarted with the server.
import { Card } from "./card.js";
import { fromBase64 } from "./picture.js";
import { announce } from "./notices.js";
import { Away, Refused, draw, untilBack } from "./server.js";

const MOST_RESTARTS = 3; // automatic ones: a drawing that crashes the server must not do so for ever

/** Return the record of a drawing that the browser keeps. It has all that is needed to draw it again. */
export function newRecord(asked, model) {
  return { id: Date.now() + Math.random(), time: Date.now(), asked, model, state: "drawing", images: [] };
}

export class Drawing {
  /** Display a drawing. `onChange(drawing)` is called whenever its record should be saved. */
  constructor(record, onChange) {
    this.record = record;
    this.onChange = onChange;
    this.card = new Card(record);
    this.card.layTiles();
    this.abort = null;
    if (record.state === "drawing") record.state = "left";
    this.#showEnd();
  }

  get isUnderWay() {
    return this.abort !== null;
  }

  /** Draw until the end. Rejects with Refused if the request itself is at fault: the form shows that, not the card. */
  async start() {
    this.abort = new AbortController();
    Object.assign(this.record, { state: "drawing", images: [], problem: "" });
    this.card.layTiles();
    announce(`Drawing: ${this.record.asked.text}`);
    this.onChange(this);
    try {
      await this.#drawThrough();
      this.record.state = "done";
    } catch (error) {
      if (error instanceof Refused && [400, 401].includes(error.status)) throw error;
      if (error.name !== "AbortError") return this.fail(error);
      this.record.state = "cancelled";
    } finally {
      this.abort = null;
    }
    this.#end();
  }

  /** End with an error. */
  fail(error) {
    Object.assign(this.record, { state: "failed", problem: sentenceOf(error) });
    this.#end();
  }

  #end() {
    this.#showEnd();
    announce(this.card.find(".sentence").textContent);
    this.onChange(this);
  }

  cancel() {
    this.abort?.abort();
  }

  remove() {
    this.cancel();
    this.card.remove();
  }

  /** Draw, and start again whenever the server goes away. The seed is fixed, so the pictures are the same. */
  async #drawThrough() {
    for (let restarts = 0; ; restarts++) {
      this.card.show("waiting", "Sending the request …", ["cancel"]);
      try {
        return await draw(this.record.asked, this.abort.signal, (event, data) => this.#on[event]?.(data));
      } catch (error) {
        if (!(error instanceof Away)) throw error;
        if (restarts === MOST_RESTARTS) throw new Error("The connection was lost several times during this drawing.");
      }
      this.card.show("waiting", "The server is not reachable. Trying again …", ["cancel"]);
      await untilBack(this.abort.signal);
    }
  }

  #on = {
    queued: ({ position }) => {
      const sentence = position ? `In the queue, at place ${position}.` : "It is your turn.";
      this.card.show("waiting", sentence, ["cancel"]);
      announce(sentence);
    },
    progress: ({ index, percent }) => this.#advance(index, percent),
    preview: ({ index, percent, image, format }) => {
      this.card.preview(index, percent, `data:image/${format};base64,${image}`);
      this.#advance(index, percent);
    },
    image: ({ index, seed, image, format }) => {
      const file = { seed, blob: fromBase64(image, format) };
      this.record.images[index] = file;
      this.card.finish(index, file);
      this.#advance(index, 100);
      announce(`Picture ${index + 1} of ${this.record.asked.num_images} is done.`);
      this.onChange(this);
    },
    done: ({ model, warnings }) => {
      Object.assign(this.record, { model, problem: (warnings ?? []).join(" ") });
    },
  };

  #advance(index, percent) {
    const whole = this.card.advance(index, percent);
    this.card.show("drawing", `Drawing: ${whole} %`, ["cancel"]);
  }

  #showEnd() {
    const { state, problem, images, asked } = this.record;
    this.card.dropUnfinished();
    const drawn = `${images.filter(Boolean).length} of ${asked.num_images}`;
    const sentence = {
      done: problem ?? "",
      cancelled: `Cancelled with ${drawn} drawn.`,
      failed: problem,
      left: `The page was closed with ${drawn} drawn.`,
    }[state];
    this.card.show(state, sentence, state === "done" ? ["remove"] : ["retry", "remove"]);
  }
}

function sentenceOf(error) {
  if (!(error instanceof Refused)) {
    if (!(error.message ?? "").startsWith("The connection")) console.error(error);
    return error.message;
  }
  const seconds = error.retryAfter;
  return seconds ? `${error.message.replace(/[.;:]*$/, "")}. Try again in ${seconds === 1 ? "a second" : `${seconds} seconds`}.` : error.message;
}
