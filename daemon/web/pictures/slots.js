// A browser opens six connections to one host and no more, all its windows together. A moving picture holds one for as
// long as it is seen; if they held all, no request would get through. So four may move, and the others are stills that
// take turns.

const MOVING = 4;
const taken = new Set();
let turn = Promise.resolve();

/** A function that gives the slot back, or null when none is free. */
export async function takeSlot() {
  for (let number = 0; number < MOVING; number += 1) {
    if (taken.has(number)) continue;
    taken.add(number);
    const unlock = await lock(`maskcast-picture-${number}`);
    if (unlock) {
      return () => {
        taken.delete(number);
        unlock();
      };
    }
    taken.delete(number);
  }
  return null;
}

/** Held against the other windows too, where the browser has locks (it has none on plain http beyond localhost). */
function lock(name) {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve) => {
    navigator.locks
      .request(name, { ifAvailable: true }, (held) => {
        if (!held) return resolve(null);
        return new Promise((unlock) => resolve(unlock));
      })
      .catch(() => resolve(null));
  });
}

/** Runs `work` once all that came before it are done. */
export function inTurn(work) {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
}
