// Calls to the server: the facts about the model, drawing, and waiting for a server that is away.
import { readEvents } from "./events.js";
import { recall, keep } from "./tab.js";

const FIRST_WAIT = 500; // milliseconds between checks for a server that is away; they grow up to LAST_WAIT
const LAST_WAIT = 4000;

/** A refused request. `status` is HTTP's, or 0 in the middle of a stream; `field` is the invalid field, or null. */
export class Refused extends Error {
  constructor(message, status = 0, field = null, retryAfter = null) {
    super(message);
    Object.assign(this, { status, field, retryAfter });
  }
}

/** No server at the moment: no connection, a lost one, or a server that is stopping. */
export class Away extends Error {}

/** Save the key for this tab. Return false if it cannot be a key. */
export function useKey(key) {
  if (!/^[\x21-\x7e]+$/.test(key)) return false;
  keep("key", key);
  return true;
}

/** Return the loaded model's name, and the facts about it that the form needs. */
export async function askForModel() {
  return (await send("playground/model.json", { cache: "no-cache" })).json();
}

/** Draw, and call `onEvent(event, data)` for each event. Rejects with Refused, Away or an AbortError. */
export async function draw(asked, signal, onEvent) {
  const response = await send("dalle", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: bodyOf(asked),
    signal,
  });
  const events = readEvents(response.body);
  for (;;) {
    const { value, done } = await events.next().catch((error) => {
      throw signal.aborted ? abortError() : error instanceof SyntaxError ? error : new Away();
    });
    if (done) throw new Away();
    const { event, data } = value;
    // A failure in a server that is stopping is not the drawing's fault.
    if (event === "error") throw (await isReady()) ? new Refused(data.error.message) : new Away();
    onEvent(event, data);
    if (event === "done") return;
  }
}

/** Return the body of a request. The seed is text here, and its digits go into the JSON unchanged. */
function bodyOf({ seed, ...fields }) {
  const body = JSON.stringify({ ...fields, stream: true });
  return `${body.slice(0, -1)},"seed":${/^\d+$/.test(seed) ? BigInt(seed) : JSON.stringify(seed)}}`;
}

async function send(path, options) {
  const key = recall("key");
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away();
  }
  if (response.ok) return response;
  const error = (await response.json().catch(() => null))?.error;
  // A proxy in front of a server that is down answers 502 to 504 with a body of its own.
  if (response.status === 503 || (!error && response.status > 501)) throw new Away();
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  throw new Refused(error?.message ?? `The server answered with status ${response.status}.`, response.status, error?.field, retryAfter);
}

let search = null;
let onAway = () => {};
let onBack = () => {};

/** Set the functions to call when the server goes away and when it is back. */
export function watchServer(away, back) {
  [onAway, onBack] = [away, back];
}

/** Wait until the server is ready. All waiting callers share one search. Rejects with an AbortError. */
export function untilBack(signal) {
  search ??= find().finally(() => (search = null));
  return Promise.race([
    search,
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(abortError()), { once: true })),
  ]);
}

/** Check once, for example after the computer slept, and search if the server is away. */
export async function look() {
  if (!search && !(await isReady())) await untilBack();
}

async function find() {
  onAway();
  for (let wait = FIRST_WAIT; ; wait = Math.min(wait * 1.5, LAST_WAIT)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (await isReady()) break;
  }
  onBack();
}

async function isReady() {
  try {
    return (await fetch("health/ready", { cache: "no-store" })).status < 500;
  } catch {
    return false;
  }
}

function abortError() {
  return new DOMException("cancelled", "AbortError");
}
