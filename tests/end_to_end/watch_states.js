// Run by the tests' browser before the page's own scripts: records the states of each tile.
globalThis.tileStates = new Map();
new MutationObserver((changes) => {
  for (const { target } of changes) {
    if (!target.classList.contains("tile")) continue;
    const states = tileStates.get(target) ?? [];
    tileStates.set(target, states);
    if (states.at(-1) !== target.dataset.state) states.push(target.dataset.state);
  }
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-state"] });
