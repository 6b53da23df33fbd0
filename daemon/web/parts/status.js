// Shows the state of a stream as text and colour.

import { element, setAttributes, setText } from "./dom.js";

const WAITING_STATES = new Set(["loading", "connecting", "retrying"]);

/** Writes the state into `node`; the class sets the colour. */
export function updateStatus(node, stream) {
  setAttributes(node, { class: `status ${stream.not_recorded ? "failed" : stream.state}`, title: stream.not_recorded });
  setText(node, stream.not_recorded ? `${stream.state}, not recorded` : stream.state);
}

const HEADLINES = {
  loading: "The models are loading",
  connecting: "Connecting",
  retrying: "No picture: trying again",
  ended: "The source has ended",
  failed: "The stream has failed",
};

/** Shows the state and its reason in `node`, which covers a still picture; hides it while the stream is up. */
export function updateCover(node, stream) {
  const waiting = stream.state === "up" && stream.frame === null;
  node.hidden = stream.state === "up" && !waiting;
  if (node.hidden) return;
  if (!node.firstChild) node.append(element("strong"), element("span"), element("i", { class: "pulse", "aria-hidden": "true" }));
  setAttributes(node, { class: `cover ${stream.state}` });
  const [headline, reason, pulse] = node.children;
  setText(headline, waiting ? "Waiting for the first frame" : (HEADLINES[stream.state] ?? stream.state));
  setText(reason, sameWords(stream.reason, headline.textContent) ? "" : stream.reason);
  pulse.hidden = !waiting && !WAITING_STATES.has(stream.state);
}

const sameWords = (a, b) => a.toLowerCase() === b.toLowerCase();
