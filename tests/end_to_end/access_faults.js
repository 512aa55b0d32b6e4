// Evaluated in the page by test_playground_access.py: returns a list of accessibility faults.
() => {
  const faults = [];
  const root = document.querySelector("dialog[open]") ?? document.body;
  const name = (element) => `${element.localName}#${element.id || element.className || element.dataset.act}`;
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const textOf = (ids) => (ids ?? "").split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join("");

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) faults.push(`twice: #${id}`);
  for (const element of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const id of `${element.getAttribute("aria-labelledby") ?? ""} ${element.getAttribute("aria-describedby") ?? ""}`.trim().split(/\s+/)) {
      if (!document.getElementById(id)) faults.push(`points at nothing: ${name(element)} -> ${id}`);
    }
  }
  if (!document.documentElement.lang) faults.push("no language");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not exactly one h1");
  for (const image of document.images) if (!image.hasAttribute("alt")) faults.push(`no alt: ${name(image)}`);

  for (const element of root.querySelectorAll("button, input, select, textarea, a[href], summary, progress, dialog")) {
    const labels = [...(element.labels ?? [])].map((label) => label.textContent).join("");
    const said = element.getAttribute("aria-label") || textOf(element.getAttribute("aria-labelledby")) || labels;
    const alt = element.querySelector("img")?.alt ?? "";
    const isField = /^(input|select|textarea|progress|dialog)$/.test(element.localName);
    if (!(said || (!isField && element.textContent) || alt).trim() && isSeen(element) && !element.disabled) faults.push(`no name: ${name(element)}`);
    const box = element.getBoundingClientRect();
    if (element.localName === "button" && isSeen(element) && Math.min(box.width, box.height) < 24) faults.push(`too small: ${name(element)}`);
  }

  // The contrast of text with the nearest opaque background.
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const [r, g, b] = [...rgba(colour)].slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundOf = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const ground = getComputedStyle(at).backgroundColor;
      if (rgba(ground)[3] === 255) return ground;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const check = (element, colour, least) => {
    const [light, dark] = [luminance(colour), luminance(groundOf(element))].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < least) faults.push(`too faint: ${name(element)} ${contrast.toFixed(2)}`);
  };
  for (const element of root.querySelectorAll("*")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (hasText && isSeen(element)) check(element, getComputedStyle(element).color, 4.5);
    if (element.matches("input, textarea") && isSeen(element)) {
      check(element, getComputedStyle(element, "::placeholder").color, 4.5);
      if (element.matches(".field input")) check(element.parentElement, getComputedStyle(element).borderTopColor, 3);
    }
  }
  return faults;
}
