// All streams at a glance.

import { element, mark, reconcile, say } from "./parts/dom.js";
import { colour, duration, plural, rate } from "./parts/format.js";
import { Player } from "./pictures/player.js";
import { status, veil } from "./parts/status.js";

const SWATCHES = 12;

export const address = (name) => `#/${encodeURIComponent(name)}`;

export class Overview {
  #cards = new Map(); // by the name of the stream
  #grid = element("div", { class: "grid" });
  #streams = [];
  #seen = false;
  #watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const card = this.#cards.get(entry.target.dataset.key);
      if (card) card.visible = entry.isIntersecting;
    }
    this.#play();
  });
  node = element("section", { class: "overview", "aria-label": "All streams" }, this.#grid);

  /** `seen`: the page is looked at and the daemon answers. */
  update(streams, seen) {
    this.#streams = streams;
    this.#seen = seen;
    const names = new Set(streams.map((stream) => stream.name));
    for (const name of [...this.#cards.keys()]) if (!names.has(name)) this.#drop(name);
    reconcile(
      this.#grid,
      streams,
      (stream) => stream.name,
      (stream) => this.#card(stream.name),
      (node, stream) => this.#cards.get(stream.name).update(stream),
    );
    this.#play();
  }

  close() {
    for (const name of [...this.#cards.keys()]) this.#drop(name);
  }

  #card(name) {
    const card = new Card(name);
    this.#cards.set(name, card);
    this.#watch.observe(card.node);
    return card.node;
  }

  #drop(name) {
    const card = this.#cards.get(name);
    this.#watch.unobserve(card.node);
    card.player.set(false, false);
    this.#cards.delete(name);
  }

  #play() {
    for (const stream of this.#streams) {
      const card = this.#cards.get(stream.name);
      card.player.set(this.#seen && card.visible && stream.frame !== null, stream.state === "up");
    }
  }
}

class Card {
  visible = false;
  #canvas = element("canvas", { "aria-hidden": "true" });
  #veil = element("div", { class: "veil", hidden: true });
  #status = element("span", { class: "status" });
  #swatches = element("span", { class: "swatches", "aria-hidden": "true" });
  #numbers = element("span", { class: "numbers" });

  constructor(name) {
    this.player = new Player(this.#canvas, name);
    this.node = element(
      "a",
      { class: "tile", href: address(name) },
      element("div", { class: "picture" }, this.#canvas, this.#veil),
      element("div", { class: "caption" }, element("h2", {}, name), this.#status, this.#numbers, this.#swatches),
    );
  }

  update(stream) {
    status(this.#status, stream);
    veil(this.#veil, stream);
    const latency = stream.latency ? [duration(stream.latency[0])] : [];
    const numbers = [`${rate(stream.fps)} FPS`, ...latency, plural(stream.tracks.length, "track")];
    say(this.#numbers, stream.state === "up" ? numbers.join("  ·  ") : stream.source);
    const shown = stream.tracks.slice(0, SWATCHES);
    reconcile(this.#swatches, shown, (track) => track.id, swatch, (node, track) => mark(node, { class: track.state }));
  }
}

function swatch(track) {
  const node = element("i");
  node.style.setProperty("--colour", colour(track.id));
  return node;
}
