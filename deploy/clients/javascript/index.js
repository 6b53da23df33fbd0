// Receives the masks, pictures and events of a maskcast daemon. index.d.ts describes what is exported.

import { Connection } from "./connection.js";
import { MaskcastError, NothingReceivedError } from "./errors.js";
import { readEvent, readFrame, Sequence } from "./messages.js";

export * from "./errors.js";

const ENDPOINT = "tcp://127.0.0.1:5555";
const PICTURE_WAIT = 1000; // ms that a frame waits for its picture when nothing else comes

export function subscribe(endpoint = ENDPOINT, { stream = null, images = false, keys = null, timeout = null } = {}) {
  const streams = names(stream);
  const kinds = images ? ["frame", "event", "masks"] : ["event", "masks"];
  return items(new Connection(endpoint, streams, kinds, keys), new Frames(streams, images), endpoint, timeout);
}

export function events(endpoint = ENDPOINT, { stream = null, keys = null, timeout = null } = {}) {
  return items(new Connection(endpoint, names(stream), ["event"], keys), new Events(), endpoint, timeout);
}

async function* items(connection, reader, endpoint, timeout) {
  let received = false;
  let last = Date.now();
  try {
    while (!reader.ended) {
      const left = timeout === null ? Infinity : Math.max(0, last + timeout * 1000 - Date.now());
      const message = await connection.receive(reader.pending ? Math.min(left, PICTURE_WAIT) : left);
      const over = message === null && !reader.pending;
      for (const item of reader.take(message)) {
        received = true;
        yield item;
        last = Date.now();
      }
      if (over && received) return;
      if (over) {
        throw new NothingReceivedError(
          `nothing from ${endpoint} within ${timeout} s: is the stream's name right, and does maskcast run publish there?`,
        );
      }
    }
  } finally {
    connection.close();
  }
}

// Frames of masks messages, joined with their pictures by `seq` if `images`.
class Frames {
  #sequence = new Sequence();
  #clocks = new Map(); // by stream, of its last frame
  #over = new Set(); // files that have ended
  #waiting = new Map(); // by stream: a frame whose picture has not come

  constructor(streams, images) {
    this.streams = streams;
    this.images = images;
  }

  get ended() {
    return this.streams !== null && this.streams.every((stream) => this.#over.has(stream)) && !this.pending;
  }

  get pending() {
    return this.#waiting.size > 0;
  }

  take(message) {
    if (message === null) return [...this.#waiting.keys()].flatMap((stream) => this.#release(stream));
    const { kind, header, blob } = message;
    if (kind === "masks") return this.#masks(header);
    if (kind === "frame") return this.#picture(header, blob);
    return kind === "event" && header.type === "source_down" ? this.#down(header) : [];
  }

  #masks(header) {
    const frame = readFrame(header, ...this.#sequence.follow(header));
    const before = this.#release(frame.stream);
    this.#clocks.set(frame.stream, frame.clock);
    this.#over.delete(frame.stream);
    if (!this.images) return [frame];
    this.#waiting.set(frame.stream, frame);
    return before;
  }

  #picture({ stream, session, seq }, blob) {
    const frame = this.#waiting.get(stream);
    if (frame?.session !== session || frame.seq !== seq) return [];
    frame.jpeg = blob;
    return this.#release(stream);
  }

  #down({ stream, reason }) {
    if (this.#clocks.get(stream) === "file") this.#over.add(stream); // a file is never opened again
    else process.emitWarning(`${stream}: the source is down: ${reason}`);
    return this.#release(stream);
  }

  #release(stream) {
    const frame = this.#waiting.get(stream);
    this.#waiting.delete(stream);
    return frame ? [frame] : [];
  }
}

class Events {
  ended = false;
  pending = false;
  #sequence = new Sequence();

  take(message) {
    if (message?.kind !== "event") return [];
    return [readEvent(message.header, ...this.#sequence.follow(message.header))];
  }
}

// The names of streams, checked: a wrong one would be waited for in silence.
function names(stream) {
  if (stream === null) return null;
  const all = typeof stream === "string" ? [stream] : [...stream];
  const wrong = all.find((name) => typeof name !== "string" || !name || name.includes("/"));
  if (wrong !== undefined || !all.length) {
    throw new MaskcastError(`stream ${JSON.stringify(stream)}: not the name of a stream; maskcast watch shows the names`);
  }
  return all;
}
