// Full screen: the whole document fills it, so that notices and dialogs stay visible; the styles hide all but the stage.

import { setAttributes } from "./dom.js";

const changed = new Set();

export const isFull = () => "full" in document.body.dataset;

/** Calls `listener()` after each change; returns a function that ends this. */
export function onFull(listener) {
  changed.add(listener);
  return () => changed.delete(listener);
}

/** Where the browser has no full screen (iPhones) or refuses it, the stage fills the window. */
export function setFull(full) {
  if (full === isFull()) return;
  setAttributes(document.body, { "data-full": full });
  if (full) document.documentElement.requestFullscreen?.().catch(() => {});
  else if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
  for (const listener of changed) listener();
}

document.addEventListener("fullscreenchange", () => document.fullscreenElement || setFull(false));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.fullscreenElement && !document.querySelector("dialog[open]")) setFull(false);
});
