// Evaluated in the page by test_playground_access.py: returns a list of elements that overflow the screen, or their own frame.
() => {
  const faults = [];
  const screen = document.documentElement.clientWidth;
  const name = (element) => `${element.localName}#${element.id || element.className || element.dataset.act}`;
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
  const isScrolled = (element) => element !== null && (scrolls(element) || isScrolled(element.parentElement));

  const excess = document.documentElement.scrollWidth - screen;
  if (excess > 0) faults.push(`the page is ${excess} px too wide`);
  for (const element of document.body.querySelectorAll("*:not(.unseen, .unseen *, svg *)")) {
    const { left, right, width } = element.getBoundingClientRect();
    if (!width || !isSeen(element)) continue;
    if ((left < -1 || right > screen + 1) && !isScrolled(element.parentElement)) {
      faults.push(`overflows the screen: ${name(element)} from ${Math.round(left)} to ${Math.round(right)}`);
    }
    const isFrame = element.matches("button, label, .prompt, .fields, .field, .key, .banner, .drawing, .tile, .toast, dialog");
    if (isFrame && !scrolls(element) && element.scrollWidth > element.clientWidth + 1 && element.clientWidth) {
      faults.push(`overflows its frame: ${name(element)} by ${element.scrollWidth - element.clientWidth} px`);
    }
  }
  return faults;
}
