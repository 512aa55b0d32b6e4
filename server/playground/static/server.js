// Talk to the server: ask for the model, draw, and find the server again when it is away.
import { readEvents } from "./events.js";
import { recall, keep } from "./tab.js";

const FIRST_WAIT = 500; // milliseconds between looks for a server that is away; they grow to the last
const LAST_WAIT = 4000;

/** Say that the server refused. `status` is HTTP's, 0 in the middle of a stream; `field` is what was wrong, if one thing was. */
export class Refused extends Error {
  constructor(message, status = 0, field = null, retryAfter = null) {
    super(message);
    Object.assign(this, { status, field, retryAfter });
  }
}

/** Say that there is no server just now: no connection, one that broke off, or a server that is stopping. */
export class Away extends Error {}

/** Keep the key for this tab; null where it can't be one. */
export function useKey(key) {
  if (!/^[\x21-\x7e]+$/.test(key)) return false;
  keep("key", key);
  return true;
}

/** Ask which model is loaded, and what the form has to know of it. */
export async function askForModel() {
  return (await send("playground/model.json", { cache: "no-cache" })).json();
}

/** Draw: `onEvent(event, data)` is told each event. Rejects with Refused, Away or an AbortError. */
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
    // What fails in a server that is stopping is not the drawing's fault.
    if (event === "error") throw (await isReady()) ? new Refused(data.error.message) : new Away();
    onEvent(event, data);
    if (event === "done") return;
  }
}

/** Write the request. A seed is text here; its digits go into the body as they are. */
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
  // A proxy before a server that is down answers 502 to 504 in words of its own.
  if (response.status === 503 || (!error && response.status > 501)) throw new Away();
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  throw new Refused(error?.message ?? `The server answered with status ${response.status}.`, response.status, error?.field, retryAfter);
}

let search = null;
let onAway = () => {};
let onBack = () => {};

/** Set who is told when the server is away, and when it is back. */
export function watchServer(away, back) {
  [onAway, onBack] = [away, back];
}

/** Wait until the server is there and ready; rejects with an AbortError. All who wait share one search. */
export function untilBack(signal) {
  search ??= find().finally(() => (search = null));
  return Promise.race([
    search,
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(abortError()), { once: true })),
  ]);
}

/** Look once, as after a night's sleep, and search if the server is away. */
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
