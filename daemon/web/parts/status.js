// A stream's state in words and colour.

import { element, mark, say } from "./dom.js";

const WAITS = new Set(["loading", "connecting", "retrying"]);

/** Fills `node` with the state; its colour comes from the class. */
export function status(node, stream) {
  mark(node, { class: `status ${stream.state}` });
  say(node, stream.state);
}

const HEADLINES = {
  loading: "The models are loading",
  connecting: "Connecting",
  retrying: "No picture: trying again",
  ended: "The source has ended",
  failed: "The stream has failed",
};

/** Lays the state and its reason over a picture that does not move; hides `node` while the stream is up. */
export function veil(node, stream) {
  const waiting = stream.state === "up" && stream.frame === null;
  node.hidden = stream.state === "up" && !waiting;
  if (node.hidden) return;
  if (!node.firstChild) node.append(element("strong"), element("span"), element("i", { class: "pulse", "aria-hidden": "true" }));
  mark(node, { class: `veil ${stream.state}` });
  const [headline, reason, pulse] = node.children;
  say(headline, waiting ? "Waiting for the first frame" : (HEADLINES[stream.state] ?? stream.state));
  say(reason, stream.reason);
  pulse.hidden = !waiting && !WAITS.has(stream.state);
}
