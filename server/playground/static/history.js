// The newest drawings in this browser's own database: prompts, settings and pictures.
const MOST_DRAWINGS = 60;
const STORE = "drawings";

let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("dalle-playground", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

/** Run a transaction on the store. Return the result of `work`'s request, once everything is written. */
async function transact(mode, work) {
  const transaction = (await open()).transaction(STORE, mode);
  const request = work(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

/** Return all drawings, newest first. */
export async function keptDrawings() {
  return (await transact("readonly", (store) => store.getAll())).reverse();
}

/** Save a drawing, and delete the oldest ones above the limit. */
export async function keepDrawing(record) {
  await transact("readwrite", (store) => {
    store.put(record);
    store.getAllKeys().onsuccess = ({ target }) => {
      for (const id of target.result.slice(0, -MOST_DRAWINGS)) store.delete(id);
    };
  });
}

/** Delete a drawing. */
export function forgetDrawing(id) {
  return transact("readwrite", (store) => store.delete(id));
}

/** Delete all drawings. */
export function forgetAll() {
  return transact("readwrite", (store) => store.clear());
}
