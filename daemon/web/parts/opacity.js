// How opaque the masks are: a choice of the viewer that this browser keeps.

const KEY = "maskcast-opacity";
export const DEFAULT = 0.3; // as in stages/output/annotate.py

let current = stored();
const listeners = new Set();

export const opacity = () => current;

export function setOpacity(value) {
  current = value;
  try {
    localStorage.setItem(KEY, String(value));
  } catch {
    // Where nothing may be kept it lasts until the page is left.
  }
  for (const listener of listeners) listener();
}

/** Calls `listener()` after each change; returns a function that ends this. */
export function onOpacity(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function stored() {
  try {
    const value = Number.parseFloat(localStorage.getItem(KEY));
    return value >= 0 && value <= 1 ? value : DEFAULT;
  } catch {
    return DEFAULT;
  }
}
