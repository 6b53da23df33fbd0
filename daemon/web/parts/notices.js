// Shows the daemon's error messages for a few seconds.

import { element, icon } from "./dom.js";

const SHOWN_FOR = 12_000; // ms
const MAX_NOTICES = 3;

export function notify(text) {
  const box = document.getElementById("notices");
  for (const shown of [...box.children]) if (shown.textContent === text) shown.remove(); // said once, and last
  const close = element("button", { class: "round", type: "button", "aria-label": "Close this notice" }, icon("cross"));
  const notice = element("div", { class: "notice" }, element("p", {}, text), close);
  close.addEventListener("click", () => notice.remove());
  box.append(notice);
  while (box.children.length > MAX_NOTICES) box.firstElementChild.remove();
  setTimeout(() => notice.remove(), SHOWN_FOR);
}
