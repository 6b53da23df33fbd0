/** One object on one frame. Its mask is decoded when `crop` or `mask` is first read. */
export interface TrackedObject {
  /** The same on all frames of a session. */
  readonly id: number;
  /** As written; null for an object that was added by hand. */
  readonly prompt: string | null;
  /** Of the detection, when the object was last detected. */
  readonly score: number;
  /** How sure the segmenter is that the object shows, 0 to 1. */
  readonly presence: number;
  /** occluded: kept, without a visible pixel. */
  readonly state: "new" | "tracked" | "occluded";
  /** x0, y0, x1, y1 in pixels, half-open; zeros for an empty mask. */
  readonly box: readonly [number, number, number, number];
  /** Pixels of the mask. */
  readonly area: number;
  /** COCO run lengths of the whole picture, as they travel. */
  readonly rle: { readonly size: readonly [height: number, width: number]; readonly counts: string | readonly number[] };
  /** The mask in the smallest rectangle around it; `pixels` row by row, 0 or 1. Throws MessageError if it is damaged. */
  readonly crop: Crop;
  /** The mask of the whole picture, row by row, 0 or 1: pixel (x, y) is at y * width + x. A new array each time. */
  readonly mask: Uint8Array;
}

export interface Crop {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint8Array;
}

/** One frame of a stream with its objects. */
export interface Frame {
  readonly stream: string;
  /** The frame's number in the stream. */
  readonly index: number;
  /** A UUID, new each time the daemon starts; ids count within it. */
  readonly session: string;
  /** One higher each time the source was opened again or changed its picture size. */
  readonly epoch: number;
  readonly seq: number;
  /** Seconds: since the file's start with clock "file", else Unix time. */
  readonly capturedAt: number;
  readonly clock: "file" | "arrival" | "rtcp";
  readonly pts: number | null;
  /** The unit of `pts` in seconds, as a fraction. */
  readonly timeBase: readonly [numerator: number, denominator: number];
  readonly publishedAt: number;
  readonly width: number;
  readonly height: number;
  /** The detector ran on this frame. */
  readonly keyframe: boolean;
  /** Frames that the daemon lost before this one. */
  readonly droppedBefore: number;
  readonly objects: readonly TrackedObject[];
  readonly classes: readonly { readonly label: string; readonly score: number; readonly id?: number }[];
  /** Messages of frames that were published before this one and did not arrive here. */
  readonly lost: number;
  /** The daemon or the stream has started anew since the frame before: ids begin again. */
  readonly restarted: boolean;
  /** The session that this one continues on another daemon; null where there is none. */
  readonly predecessor: string | null;
  /** Rises each time a fleet gives the stream to another daemon; null outside a fleet. */
  readonly fence: number | null;
  /** The annotated picture; null without `images`, or where there is none. */
  readonly jpeg: Uint8Array | null;
  /** The message as it came. */
  readonly header: Readonly<Record<string, unknown>>;
}

/** Something that happened to a track or a stream. */
export interface Event {
  readonly stream: string;
  /** Such as "track_started", "source_down": the daemon's manual lists them. */
  readonly type: string;
  readonly reason: string;
  readonly frame: number | null;
  /** The id of the object. */
  readonly track: number | null;
  readonly prompt: string | null;
  readonly session: string;
  readonly epoch: number;
  readonly seq: number;
  readonly publishedAt: number;
  readonly lost: number;
  readonly restarted: boolean;
  /** As of a frame. */
  readonly predecessor: string | null;
  /** As of a frame. */
  readonly fence: number | null;
  readonly header: Readonly<Record<string, unknown>>;
}

export interface Options {
  /** The name of a stream, several names, or nothing for all streams (then their pictures travel, too). */
  stream?: string | readonly string[] | null;
  /** Where the daemon wants keys: its public key and the subscriber's own pair, 40 characters each. */
  keys?: { server: string; public: string; secret: string } | null;
  /** Seconds of silence after which the loop ends. Without it the loop waits for ever. */
  timeout?: number | null;
}

/**
 * The frames that a daemon publishes, as they come. The subscription begins with this call.
 *
 * The loop ends when the named streams are files and have ended, or after `timeout` seconds without a frame. With
 * `images` each frame waits for its annotated picture, which the daemon draws only where somebody asks for it.
 *
 * Throws MaskcastError for a wrong endpoint or stream; the loop throws NothingReceivedError when no frame at all came
 * within `timeout`, KeysError, VersionError, and MessageError for what is not a maskcast message.
 */
export function subscribe(endpoint?: string, options?: Options & { images?: boolean }): AsyncGenerator<Frame, void, void>;

/** The events, without masks. The end of a file does not end the loop: it is the event `source_down`. */
export function events(endpoint?: string, options?: Options): AsyncGenerator<Event, void, void>;

/** Any error of this package. */
export class MaskcastError extends Error {}
/** A message is damaged, or is not maskcast's. */
export class MessageError extends MaskcastError {}
/** The daemon speaks a version of the mask stream that this package does not know. */
export class VersionError extends MaskcastError {}
/** Not one message came within the time allowed. */
export class NothingReceivedError extends MaskcastError {}
/** The daemon does not accept these keys. */
export class KeysError extends MaskcastError {}
