// The page's entry point: the form starts drawings, buttons act on them, the browser keeps them.
import { pictureOf } from "./card.js";
import { Drawing, newRecord } from "./drawing.js";
import { fillForm, readForm, showModel, showRefusal } from "./form.js";
import { forgetAll, forgetDrawing, keepDrawing, keptDrawings } from "./history.js";
import { note, showBanner } from "./notices.js";
import { copy, download } from "./picture.js";
import { Away, askForModel, look, untilBack, useKey, watchServer } from "./server.js";
import { closeViewer, enlarge, shownPicture, step } from "./viewer.js";

const MOST_AT_ONCE = 4; // a browser opens six connections to a server, and one must stay free for health checks
const OLDER_AT_ONCE = 10;

const byId = (id) => document.getElementById(id);
const list = byId("drawings");
const drawings = new Map(); // a card's element -> its drawing
let older = []; // saved records that are not shown yet, newest first
let model = "";
let isKeeping = true; // until the browser refuses to save
let refused = null; // the request that waits for a key

async function loadModel() {
  try {
    const loaded = await askForModel();
    model = loaded.model;
    showModel(loaded);
  } catch (error) {
    if (!(error instanceof Away)) return refuse(error);
    untilBack(); // when it is back, the model is loaded
  }
}

function add(record, where = "prepend") {
  const drawing = new Drawing(record, keepIt);
  drawings.set(drawing.card.element, drawing);
  list[where](drawing.card.element);
  showWhatThereIs();
  return drawing;
}

async function keepIt({ card, record }) {
  if (!drawings.has(card.element)) return; // it was removed while it was drawn
  try {
    await keepDrawing(record);
  } catch {
    if (isKeeping) note("This browser does not save pictures for this page. Download the ones that you want to keep.");
    isKeeping = false;
  }
}

function drawNew(asked) {
  if (!hasRoom()) return;
  const drawing = add(newRecord(asked, model));
  start(drawing);
  if (matchMedia("(pointer: coarse)").matches) document.activeElement.blur(); // hides the on-screen keyboard
  drawing.card.element.scrollIntoView({ block: "nearest" });
}

function hasRoom() {
  const underWay = [...drawings.values()].filter((drawing) => drawing.isUnderWay).length;
  if (underWay >= MOST_AT_ONCE) note(`${underWay} drawings are in progress. Wait for one to end, or cancel one.`);
  return underWay < MOST_AT_ONCE;
}

/** Draw. The form shows why a request was refused; its card stays only if the drawing is an old one. */
async function start(drawing, isOld = false) {
  try {
    await drawing.start();
  } catch (error) {
    if (isOld) drawing.fail(error);
    else discard(drawing);
    refuse(error, isOld ? null : drawing.record.asked);
  }
}

/** Display why a request was refused, or ask for a key. */
function refuse(error, asked = null) {
  if (error.status !== 401) return showRefusal(error);
  refused = asked;
  byId("key-form").hidden = false;
  byId("key-error").textContent = byId("key").value ? "The server does not accept this key." : "";
  byId("key").focus();
}

async function discard(drawing) {
  drawings.delete(drawing.card.element);
  await forgetDrawing(drawing.record.id).catch(() => {}); // then it was never saved
  drawing.remove(); // after the deletion, so that no reload brings it back
  showWhatThereIs();
}

function showWhatThereIs() {
  byId("empty").hidden = drawings.size > 0;
  byId("clear").hidden = !drawings.size;
  byId("older").hidden = !older.length;
}

function showOlder() {
  for (const record of older.splice(0, OLDER_AT_ONCE)) add(record, "append");
  showWhatThereIs();
}

async function forgetEverything() {
  const gone = [...drawings.values()];
  drawings.clear();
  older = [];
  await forgetAll().catch(() => {}); // then nothing was saved
  for (const drawing of gone) drawing.remove();
  showWhatThereIs();
  byId("drawings-title").focus();
}

const onPicture = {
  download,
  copy: async (picture) => note(await copy(picture)),
  again({ asked, seed }) {
    closeViewer();
    fillForm({ ...asked, seed, num_images: 1 });
    note(`Seed ${seed} is set. Change the prompt or a setting, and draw.`);
  },
  more({ asked: { seed, ...asked } }) {
    closeViewer();
    fillForm(asked);
    byId("form").requestSubmit();
  },
};

const onDrawing = {
  cancel: (drawing) => drawing.cancel(),
  retry: (drawing) => hasRoom() && start(drawing, true),
  remove(drawing) {
    const next = drawing.card.element.nextElementSibling?.querySelector("h3 button") ?? byId("drawings-title");
    discard(drawing);
    next.focus();
  },
  reuse: ({ record: { asked: { seed, ...asked } } }) => fillForm(asked),
};

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = readForm();
  if (asked) drawNew(asked);
});

list.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-act]");
  if (!button) return;
  const { act } = button.dataset;
  if (act === "open") enlarge(button.closest(".tile"));
  else if (act in onPicture) onPicture[act](pictureOf(button));
  else onDrawing[act](drawings.get(button.closest(".drawing")));
});

byId("viewer").addEventListener("click", ({ target }) => {
  const act = target.closest("[data-act]")?.dataset.act;
  if (act === "close") closeViewer();
  else if (act === "previous" || act === "next") step(act === "next" ? 1 : -1);
  else if (act) onPicture[act](shownPicture());
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!useKey(byId("key").value.trim())) {
    byId("key-error").textContent = "A key has only letters, digits and symbols, without spaces.";
    return;
  }
  byId("key-form").hidden = true;
  if (refused) drawNew(refused);
  else loadModel();
});

byId("older").addEventListener("click", showOlder);
byId("clear").addEventListener("click", () => byId("confirm").showModal());
byId("confirm").addEventListener("click", ({ target }) => {
  const act = target.closest("[data-act]")?.dataset.act;
  if (!act) return;
  byId("confirm").close();
  if (act === "forget") forgetEverything();
});

watchServer(
  () => showBanner("The server is not reachable. Trying again …"),
  () => {
    showBanner("");
    note("The server is back.");
    loadModel();
  },
);
for (const event of ["online", "focus"]) addEventListener(event, () => look());

loadModel();
older = await keptDrawings().catch(() => []);
showOlder();
