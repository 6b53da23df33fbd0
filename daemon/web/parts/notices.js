// What went wrong, in the daemon's own words.

import { element, icon } from "./dom.js";

const SHOWN = 12_000; // ms
const MOST = 3;

export function notify(text) {
  const box = document.getElementById("notices");
  const close = element("button", { class: "round", type: "button", "aria-label": "Close this notice" }, icon("cross"));
  const notice = element("div", { class: "notice" }, element("p", {}, text), close);
  close.addEventListener("click", () => notice.remove());
  box.append(notice);
  while (box.children.length > MOST) box.firstElementChild.remove();
  setTimeout(() => notice.remove(), SHOWN);
}
