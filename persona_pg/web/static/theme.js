// Runs before anything is painted: the reader's choice of dark or light, else the system's.
"use strict";
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("persona-theme");
  } catch {
    // Storage may be switched off; then the system's choice holds.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
