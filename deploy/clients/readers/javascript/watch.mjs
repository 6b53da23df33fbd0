import { Subscriber } from "zeromq";
import { decode } from "./rle.mjs";
const [endpoint, stream] = process.argv.slice(2);
const socket = new Subscriber();
socket.connect(endpoint);
socket.subscribe(`v1/${stream}/masks`);
for await (const [topic, header] of socket) {
  const { frame, objects } = JSON.parse(header);
  for (const { id, mask } of objects) console.log(frame, id, decode(mask).filter(Boolean).length);
}
