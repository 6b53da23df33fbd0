// What the user gets: frames, their objects, events. Made from headers as they travel; new keys are ignored.

import { MessageError } from "./errors.js";
import { cut } from "./rle.js";

// One object on one frame. Its mask is decoded when `crop` or `mask` is first read.
export class TrackedObject {
  #crop;

  constructor({ id, prompt, score, presence, state, box, area, mask }) {
    Object.assign(this, { id, prompt, score, presence, state, box, area, rle: mask });
  }

  get crop() {
    return (this.#crop ??= cut(this.rle));
  }

  get mask() {
    const [height, width] = this.rle.size;
    const { x, y, ...crop } = this.crop;
    const whole = new Uint8Array(height * width);
    for (let row = 0; row < crop.height; row++) {
      const line = crop.pixels.subarray(row * crop.width, (row + 1) * crop.width);
      whole.set(line, (y + row) * width + x);
    }
    return whole;
  }
}

const FRAME = {
  stream: "stream", index: "frame", session: "session", epoch: "epoch", seq: "seq", capturedAt: "captured_at",
  clock: "clock", pts: "pts", timeBase: "time_base", publishedAt: "published_at", width: "width", height: "height",
  keyframe: "keyframe", droppedBefore: "dropped_before", objects: "objects", classes: "classes",
};
const EVENT = {
  stream: "stream", type: "type", reason: "reason", frame: "frame", track: "track", prompt: "prompt",
  session: "session", epoch: "epoch", seq: "seq", publishedAt: "published_at",
};

// The frame of a masks header; index.d.ts says what is in it. Throws MessageError when a field is missing.
export function readFrame(header, lost, restarted) {
  const frame = read(header, FRAME);
  const objects = frame.objects.map((item) => new TrackedObject(item));
  return { ...frame, objects, lost, restarted, ...fleet(header), jpeg: null, header };
}

export function readEvent(header, lost, restarted) {
  return { ...read(header, EVENT), lost, restarted, ...fleet(header), header };
}

function fleet({ predecessor = null, fence = null }) {
  return { predecessor, fence };
}

function read(header, fields) {
  const missing = Object.values(fields).filter((key) => !(key in header));
  if (missing.length) throw new MessageError(`a message is damaged: it has no ${missing.join(", ")}`);
  return Object.fromEntries(Object.entries(fields).map(([name, key]) => [name, header[key]]));
}

// Follows `seq`, which counts the messages of one kind by stream and session without holes.
export class Sequence {
  #last = new Map();

  // How many messages are missing before this one, and whether its session is a new one. In a new session those count
  // that were sent before this subscriber was connected again.
  follow({ stream, session, seq }) {
    const before = this.#last.get(stream);
    this.#last.set(stream, { session, seq });
    if (!before) return [0, false];
    if (before.session !== session) return [seq, true];
    return [Math.max(0, seq - before.seq - 1), false];
  }
}

// The highest fence of each stream: a fleet raises it each time it gives the stream to another daemon.
export class Fences {
  #highest = new Map();

  // Whether the message is no older publisher's; one without a fence never is.
  admits({ stream, fence }) {
    if (!Number.isInteger(fence)) return true;
    const highest = Math.max(fence, this.#highest.get(stream) ?? fence);
    this.#highest.set(stream, highest);
    return fence === highest;
  }
}
