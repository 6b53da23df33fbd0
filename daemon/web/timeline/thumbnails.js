// Loads the snapshots of events once they come near the window's edge.

import { openFile } from "../api.js";
import { setAttributes } from "../parts/dom.js";

const MARGIN = "400px"; // loads ahead of scrolling

export class Thumbnails {
  #paths = new WeakMap(); // by <img>
  #releases = new Set();
  #stop = new AbortController();
  #observer = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => this.#load(entry.target)), {
    rootMargin: MARGIN,
  });

  /** Shows the file at `path` in `image` when it is in view; `data-shown` is set once it is there. */
  watch(image, path) {
    if (this.#paths.has(image)) return;
    this.#paths.set(image, path);
    this.#observer.observe(image);
  }

  close() {
    this.#stop.abort();
    this.#observer.disconnect();
    for (const release of this.#releases) release();
  }

  async #load(image) {
    this.#observer.unobserve(image);
    try {
      const { src, release } = await openFile(this.#paths.get(image), this.#stop.signal);
      if (this.#stop.signal.aborted) return release();
      this.#releases.add(release);
      image.addEventListener("load", () => setAttributes(image, { "data-shown": true }), { once: true });
      image.src = src;
    } catch {
      // The row stays without a picture: the snapshot is gone, or the daemon is, which the banner says.
    }
  }
}
