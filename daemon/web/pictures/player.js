// Shows the pictures of one stream with their masks: as video if a slot is free, else a still every few seconds.

import { openPreview } from "../api.js";
import { parts } from "./mjpeg.js";
import { runInTurn, takeSlot } from "./slots.js";

const RETRY_AFTER = 2000; // ms
const STILL_TIMEOUT = 3000; // ms to wait for the second picture of a still

export class Player {
  #screen;
  #name;
  #onPicture;
  #stop = null;
  #up = false;

  /** `onPicture()` is called after each picture that `screen` shows. */
  constructor(screen, name, onPicture = () => {}) {
    this.#screen = screen;
    this.#name = name;
    this.#onPicture = onPicture;
  }

  /** The frame that is on the screen, {frame, session}; null before the first. */
  get shown() {
    return this.#screen.header;
  }

  /** `wanted`: the screen is visible. `up`: the stream delivers new pictures; if not, one still is shown. */
  set(wanted, up) {
    if (wanted === Boolean(this.#stop) && up === this.#up) return;
    this.#stop?.abort();
    this.#stop = wanted ? new AbortController() : null;
    this.#up = up;
    if (wanted) this.#run(this.#stop.signal, up);
  }

  async #run(stopped, up) {
    while (!stopped.aborted) {
      const releaseSlot = up ? await takeSlot() : null;
      try {
        if (releaseSlot) await this.#watch(stopped, Infinity);
        // The first picture may be old: the daemon draws pictures only while the stream is watched.
        else await runInTurn(() => this.#watch(AbortSignal.any([stopped, AbortSignal.timeout(STILL_TIMEOUT)]), up ? 2 : 1));
      } catch {
        // The stream's state shows the reason; here it is only tried again.
      } finally {
        releaseSlot?.();
      }
      await pause(RETRY_AFTER, stopped);
    }
  }

  async #watch(stopped, limit) {
    if (stopped.aborted) return;
    let drawn = 0;
    let header = null; // of the picture that follows
    // Reading waits for drawing, so that the daemon skips pictures that the browser cannot draw in time.
    for await (const { type, bytes } of parts(await openPreview(this.#name, stopped))) {
      if (type === "application/json") {
        header = JSON.parse(new TextDecoder().decode(bytes));
        continue;
      }
      await this.#draw(bytes, header);
      drawn += 1;
      if (drawn >= limit || stopped.aborted) return;
    }
  }

  async #draw(jpeg, header) {
    const picture = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    this.#screen.show(picture, header);
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
