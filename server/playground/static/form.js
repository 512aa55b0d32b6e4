// The form: reading it, filling it, and showing errors at their fields.
import { recall, keep } from "./tab.js";

const SETTINGS = ["best_of", "temperature", "top_k", "supercondition_factor"];
const ADVANCED = ["negative_prompt", "seed", ...SETTINGS, "img_format"];
const FIELDS = ["text", "num_images", ...ADVANCED];
const MOST_PICTURES = 10;

const byId = (id) => document.getElementById(id);
const form = byId("form");

/** Display the loaded model: a sentence, examples to click, and its default settings as placeholders. */
export function showModel(model) {
  // The sentence has its commands between backticks.
  byId("about").replaceChildren(
    ...model.about.split("`").map((part, i) => (i % 2 ? Object.assign(document.createElement("code"), { textContent: part }) : part)),
  );
  const { examples, surprises } = model;
  byId("examples").replaceChildren(...examples.map((text) => exampleButton(text)));
  if (surprises.length) byId("examples").prepend(exampleButton("Surprise me", () => surprises.at(Math.random() * surprises.length)));
  byId("examples").hidden = !model.examples.length;
  byId("num_images").max = Math.min(MOST_PICTURES, model.max_images);
  for (const name of SETTINGS) byId(name).placeholder = model.sampling[name];
  const chosen = byId("img_format").value;
  byId("img_format").replaceChildren(
    new Option(`the server's default (${model.img_format.toUpperCase()})`, ""),
    ...model.formats.map((format) => new Option(format.toUpperCase(), format)),
  );
  byId("img_format").value = chosen;
  restoreDraft();
}

function exampleButton(text, prompt = () => text) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  button.addEventListener("click", () => {
    byId("text").value = prompt();
    changed();
    byId("text").focus();
  });
  return button;
}

/** Return the form's request, or null without a prompt. Invalid numbers stay as typed: the server explains them best. */
export function readForm() {
  showErrors({});
  const text = byId("text").value.trim();
  if (!text) {
    showErrors({ text: "Type a prompt first." });
    return null;
  }
  const asked = { text, num_images: Number(byId("num_images").value), seed: byId("seed").value.trim() || randomSeed() };
  for (const name of SETTINGS) {
    const typed = byId(name).value.trim();
    const number = Number(typed.replace(",", "."));
    if (typed) asked[name] = Number.isFinite(number) ? number : typed;
  }
  for (const name of ["negative_prompt", "img_format"]) if (byId(name).value.trim()) asked[name] = byId(name).value.trim();
  return asked;
}

/** Choose the seed here, so that a drawing can start again after a lost connection. */
function randomSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** Fill the form. Fields that are not in `asked` become empty. */
export function fillForm(asked) {
  showErrors({});
  for (const name of FIELDS) {
    if (name !== "num_images") byId(name).value = asked[name] ?? "";
    else if (asked.num_images) byId(name).value = asked.num_images;
  }
  if (ADVANCED.some((name) => byId(name).value)) byId("advanced").open = true;
  changed();
  byId("text").focus();
  form.scrollIntoView({ block: "start" });
}

/** Display why the server refused a request, at the field that it names, and focus that field. */
export function showRefusal({ message, field }) {
  const name = field === "guidance" ? "supercondition_factor" : field;
  if (!FIELDS.includes(name)) return showErrors({ form: message });
  const label = name === "text" ? "The prompt" : form.querySelector(`label[for=${name}]`).firstChild.textContent.trim();
  showErrors({ [name]: message.startsWith(field) ? `${label}${message.slice(field.length)}.` : message });
}

function showErrors(errors) {
  for (const name of [...FIELDS, "form"]) {
    byId(`${name}-error`).textContent = errors[name] ?? "";
    if (name !== "form") byId(name).toggleAttribute("aria-invalid", name in errors);
  }
  const [first] = FIELDS.filter((name) => name in errors);
  if (!first) return;
  if (byId("advanced").contains(byId(first))) byId("advanced").open = true;
  byId(first).focus();
}

function changed() {
  byId("count").textContent = byId("num_images").value;
  const draft = Object.fromEntries(FIELDS.map((name) => [name, byId(name).value]));
  keep("draft", JSON.stringify({ ...draft, open: byId("advanced").open }));
}

/** Restore the text that was typed before the page was reloaded. */
function restoreDraft() {
  const { open, ...draft } = JSON.parse(recall("draft") || "{}");
  for (const [name, value] of Object.entries(draft)) byId(name).value = value;
  byId("advanced").open = Boolean(open);
  byId("count").textContent = byId("num_images").value;
}

form.addEventListener("input", changed);
byId("advanced").addEventListener("toggle", changed);
byId("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
