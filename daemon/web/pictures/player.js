// One stream's annotated picture on a canvas: moving while a slot is free, else a still every few seconds.

import { openPictures } from "../api.js";
import { jpegs } from "./mjpeg.js";
import { inTurn, takeSlot } from "./slots.js";

const AGAIN = 2000; // ms
const STILL_WAITS = 3000; // ms for the second picture of a still

export class Player {
  #canvas;
  #name;
  #onPicture;
  #stop = null;
  #up = false;

  /** `onPicture()` is called after each picture. */
  constructor(canvas, name, onPicture = () => {}) {
    this.#canvas = canvas;
    this.#name = name;
    this.#onPicture = onPicture;
  }

  /** `wanted`: somebody looks. `up`: the stream brings new pictures; one that does not is a still. */
  set(wanted, up) {
    if (wanted === Boolean(this.#stop) && up === this.#up) return;
    this.#stop?.abort();
    this.#stop = wanted ? new AbortController() : null;
    this.#up = up;
    if (wanted) this.#run(this.#stop.signal, up);
  }

  async #run(stopped, up) {
    while (!stopped.aborted) {
      const giveBack = up ? await takeSlot() : null;
      try {
        if (giveBack) await this.#watch(stopped, Infinity);
        // The first picture may be as old as the last look at the stream.
        else await inTurn(() => this.#watch(AbortSignal.any([stopped, AbortSignal.timeout(STILL_WAITS)]), up ? 2 : 1));
      } catch {
        // What is wrong stands in the stream's state; here it only has to be tried again.
      } finally {
        giveBack?.();
      }
      await pause(AGAIN, stopped);
    }
  }

  async #watch(stopped, most) {
    if (stopped.aborted) return;
    let seen = 0;
    // Reading waits for drawing, so that the daemon skips what is too much for this screen.
    for await (const jpeg of jpegs(await openPictures(this.#name, stopped))) {
      await this.#draw(jpeg);
      seen += 1;
      if (seen >= most || stopped.aborted) return;
    }
  }

  async #draw(jpeg) {
    const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    const { width, height } = picture;
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    this.#onPicture();
  }
}

function pause(milliseconds, stopped) {
  return new Promise((resolve) => {
    if (stopped.aborted) return resolve();
    const timer = setTimeout(resolve, milliseconds);
    stopped.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
