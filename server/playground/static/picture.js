// A finished picture: its file name, and saving and copying its file.
const MOST_NAME_CHARACTERS = 60;
const EXTENSIONS = { jpeg: "jpg", png: "png", webp: "webp" };

/** Return a picture of a drawing. The caller releases its `url` when the picture is no longer shown. */
export function makePicture(asked, index, { seed, blob }) {
  return {
    asked,
    seed,
    blob,
    url: URL.createObjectURL(blob),
    alt: `Picture ${index + 1} of ${asked.num_images}: ${asked.text}`,
    fileName: `${slug(asked.text)}-${seed}.${EXTENSIONS[blob.type.slice("image/".length)] ?? "jpg"}`,
  };
}

/** Return a file decoded from base64. */
export function fromBase64(base64, format) {
  return new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: `image/${format}` });
}

function slug(text) {
  const words = text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return words.slice(0, MOST_NAME_CHARACTERS).replace(/^-|-$/g, "") || "picture";
}

/** Save a picture's file. */
export function download({ url, fileName }) {
  Object.assign(document.createElement("a"), { href: url, download: fileName }).click();
}

/** Copy a picture to the clipboard. Return a sentence about the result. */
export async function copy({ blob }) {
  if (!navigator.clipboard?.write) {
    return "This browser copies pictures only over https or on localhost. Download the picture instead.";
  }
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": toPng(blob) })]);
    return "The picture is copied.";
  } catch {
    return "This browser did not allow copying. Download the picture instead.";
  }
}

/** Convert a file to PNG, the only format that every clipboard accepts. */
async function toPng(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
