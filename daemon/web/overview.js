// The overview: one card per stream.

import { element, reconcile, setAttributes, setText } from "./parts/dom.js";
import { colour, duration, plural, rate } from "./parts/format.js";
import { Player } from "./pictures/player.js";
import { Screen } from "./pictures/screen.js";
import { updateCover, updateStatus } from "./parts/status.js";

const MAX_SWATCHES = 12; // tracks shown on a card

export const address = (name) => `#/${encodeURIComponent(name)}`;

export class Overview {
  #cards = new Map(); // by the name of the stream
  #grid = element("div", { class: "grid" });
  #streams = [];
  #active = false;
  #visibility = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const card = this.#cards.get(entry.target.dataset.key);
      if (card) card.visible = entry.isIntersecting;
    }
    this.#updatePlayers();
  });
  node = element("section", { class: "overview", "aria-label": "All streams" }, this.#grid);

  /** `active`: the page is visible and the daemon answers. */
  update(streams, active) {
    this.#streams = streams;
    this.#active = active;
    const names = new Set(streams.map((stream) => stream.name));
    for (const name of [...this.#cards.keys()]) if (!names.has(name)) this.#removeCard(name);
    reconcile(
      this.#grid,
      streams,
      (stream) => stream.name,
      (stream) => this.#createCard(stream.name),
      (node, stream) => this.#cards.get(stream.name).update(stream),
    );
    this.#updatePlayers();
  }

  close() {
    for (const name of [...this.#cards.keys()]) this.#removeCard(name);
  }

  #createCard(name) {
    const card = new Card(name);
    this.#cards.set(name, card);
    this.#visibility.observe(card.node);
    return card.node;
  }

  #removeCard(name) {
    const card = this.#cards.get(name);
    this.#visibility.unobserve(card.node);
    card.close();
    this.#cards.delete(name);
  }

  #updatePlayers() {
    for (const stream of this.#streams) {
      const card = this.#cards.get(stream.name);
      card.player.set(this.#active && card.visible && stream.frame !== null, stream.state === "up");
    }
  }
}

class Card {
  visible = false;
  #screen;
  #cover = element("div", { class: "cover", hidden: true });
  #status = element("span", { class: "status" });
  #swatches = element("span", { class: "swatches", "aria-hidden": "true" });
  #numbers = element("span", { class: "numbers" });

  constructor(name) {
    this.#screen = new Screen(`The annotated picture of ${name}`);
    this.#screen.node.append(this.#cover);
    this.player = new Player(this.#screen, name);
    this.node = element(
      "a",
      { class: "tile", href: address(name) },
      this.#screen.node,
      element("div", { class: "caption" }, element("h2", {}, name), this.#status, this.#numbers, this.#swatches),
    );
  }

  close() {
    this.player.set(false, false);
    this.#screen.close();
  }

  update(stream) {
    updateStatus(this.#status, stream);
    updateCover(this.#cover, stream);
    const latency = stream.latency ? [duration(stream.latency[0])] : [];
    const numbers = [`${rate(stream.fps)} FPS`, ...latency, plural(stream.tracks.length, "track")];
    setText(this.#numbers, stream.state === "up" ? numbers.join("  ·  ") : stream.source);
    const shown = stream.tracks.slice(0, MAX_SWATCHES);
    reconcile(this.#swatches, shown, (track) => track.id, swatch, (node, track) => setAttributes(node, { class: track.state }));
  }
}

function swatch(track) {
  const node = element("i");
  node.style.setProperty("--colour", colour(track.id));
  return node;
}
