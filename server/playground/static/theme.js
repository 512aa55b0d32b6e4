// The theme: light, dark or the system's. Not a module, so that it runs before the first paint.
"use strict";
{
  const THEMES = ["system", "light", "dark"];
  const root = document.documentElement;
  let theme = "system";
  try {
    theme = localStorage.getItem("dalle-theme") ?? theme;
  } catch {} // no storage: use the system's
  root.dataset.theme = theme;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      root.dataset.theme = theme;
      button.lastElementChild.textContent = `Theme: ${theme}`;
    };
    show();
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      show();
      try {
        localStorage.setItem("dalle-theme", theme);
      } catch {} // then it lasts until the page is closed
    });
  });
}
