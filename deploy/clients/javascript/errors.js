// The errors of this package. Each message is one line: what is wrong, where, what to do.

export class MaskcastError extends Error {
  get name() {
    return this.constructor.name;
  }
}

// A message is damaged, or is not maskcast's.
export class MessageError extends MaskcastError {}

// The daemon speaks a version of the mask stream that this package does not know.
export class VersionError extends MaskcastError {}

// Not one message came within the time allowed.
export class NothingReceivedError extends MaskcastError {}

// The daemon does not accept these keys.
export class KeysError extends MaskcastError {}
