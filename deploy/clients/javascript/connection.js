// The ZeroMQ socket of one subscription.

import { Subscriber } from "zeromq";
import { KeysError, MaskcastError, MessageError, VersionError } from "./errors.js";
import { Fences } from "./messages.js";

const VERSION = 1;
const LATER = [2, 3, 4, 5, 6, 7, 8, 9].map((version) => `v${version}/`);
const RECEIVE_HWM = 64; // messages; a longer queue would only add delay
const KEY = /^[0-9A-Za-z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/; // Z85, https://rfc.zeromq.org/spec/32/
const HINT_AFTER = 3000; // ms without any message

// Subscribes at once, and connects again by itself when the daemon was away. `streams`: names, or null for all.
export class Connection {
  #socket;
  #endpoint;
  #fences = new Fences();
  #hintAt = Date.now() + HINT_AFTER; // infinite once a message has come
  #later = null; // a later version that was heard
  #refused = null;
  #said = false; // that the daemon does not let us in

  constructor(endpoint, streams, kinds, keys) {
    this.#endpoint = endpoint;
    const curve = keys && { curveServerKey: keys.server, curvePublicKey: keys.public, curveSecretKey: keys.secret };
    if (keys && !Object.values(curve).every((key) => KEY.test(key))) {
      // a wrong key given to libzmq here would end the process
      throw new KeysError("keys must have server, public and secret, CURVE keys of 40 characters each");
    }
    this.#socket = new Subscriber({ linger: 0, receiveHighWaterMark: RECEIVE_HWM, tcpKeepalive: 1, ...curve });
    this.#watchHandshakes(Boolean(keys));
    const topics = streams?.flatMap((stream) => kinds.map((kind) => `v${VERSION}/${stream}/${kind}`));
    this.#socket.subscribe(...LATER, ...(topics ?? [`v${VERSION}/`]));
    try {
      this.#socket.connect(endpoint);
    } catch (error) {
      this.close();
      throw new MaskcastError(
        `cannot subscribe to ${endpoint}: ${error.message}; write it as in tcp://gpu-host:5555`,
      );
    }
  }

  // The next message, { kind, header, blob }; null after `timeout` ms (Infinity: never). A message of a daemon that the
  // stream was taken from since is left out. Throws MessageError, KeysError, and VersionError when only messages of a
  // later version come.
  async receive(timeout) {
    const deadline = Date.now() + timeout;
    for (;;) {
      const parts = await this.#next(Math.min(deadline, this.#hintAt) - Date.now());
      if (parts === null) {
        this.#silent();
        if (Date.now() >= deadline) return null;
        continue;
      }
      const later = /^v(\d+)\//.exec(parts[0].subarray(0, 20).toString());
      if (!later || Number(later[1]) === VERSION) {
        this.#hintAt = Infinity;
        const message = unpack(parts);
        if (this.#fences.admits(message.header)) return message;
        continue;
      }
      this.#later ??= (this.#socket.unsubscribe(...LATER), Number(later[1]));
    }
  }

  close() {
    this.#socket.close();
  }

  async #next(timeout) {
    this.#socket.receiveTimeout = timeout === Infinity ? -1 : Math.max(0, Math.ceil(timeout));
    try {
      return await this.#socket.receive();
    } catch (error) {
      if (this.#refused) throw this.#refused;
      if (error.code === "EAGAIN") return null;
      throw error;
    }
  }

  #silent() {
    if (this.#hintAt < Infinity && this.#later) throw tooNew(this.#later);
    if (Date.now() < this.#hintAt) return;
    this.#hintAt = Infinity;
    if (!this.#said) process.emitWarning(`nothing from ${this.#endpoint} yet; does maskcast run publish there?`);
  }

  #watchHandshakes(withKeys) {
    const hint = withKeys
      ? "is the server key that of this daemon, and has it keys at all?"
      : "does it want keys? then give keys: { server, public, secret }";
    const refuse = () => {
      if (!this.#said) process.emitWarning(`${this.#endpoint} does not let us in: ${hint}`);
      this.#said = true;
    };
    this.#socket.events.on("handshake:error:protocol", refuse);
    this.#socket.events.on("handshake:error:other", refuse);
    this.#socket.events.on("handshake:error:auth", () => {
      this.#refused = new KeysError(
        `${this.#endpoint} refuses this key: its public half must stand in the daemon's folder of keys, as ` +
          "clients/NAME.key",
      );
      this.close(); // ends the receive that waits; libzmq does not try again anyhow
    });
  }
}

function unpack(parts) {
  let header;
  try {
    header = JSON.parse(parts[1]?.toString());
  } catch {
    header = null;
  }
  const schema = /^maskcast\/v(\d+)\/(\w+)$/.exec(header?.schema);
  const kind = parts[0].toString().split("/").at(-1);
  if (!schema) throw new MessageError("not a message of maskcast; is this a maskcast daemon?");
  if (Number(schema[1]) !== VERSION) throw tooNew(schema[1]);
  if (schema[2] !== kind || (kind === "frame" && parts.length < 3) || !("seq" in header)) {
    throw new MessageError(`a ${kind} message is damaged: its parts do not belong together`);
  }
  return { kind, header, blob: parts[2] ?? null };
}

function tooNew(version) {
  return new VersionError(
    `the daemon speaks version ${version} of the mask stream, this package version ${VERSION}: install the ` +
      "maskcast-client that belongs to the daemon",
  );
}
