// A browser opens at most six connections to one host, over all its windows. A video holds one connection while it is
// shown; if videos held all of them, no request could be sent. So at most four streams are shown as video, the others
// as stills, loaded one after the other.

const MAX_VIDEOS = 4;
const taken = new Set();
let lastTurn = Promise.resolve();

/** Resolves to a function that releases the slot, or to null if none is free. */
export async function takeSlot() {
  for (let number = 0; number < MAX_VIDEOS; number += 1) {
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

/** Takes a lock shared with other windows, if the browser has locks (it has none on plain http except on localhost). */
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

/** Runs `work` after all earlier calls have finished. */
export function runInTurn(work) {
  const mine = lastTurn.then(work);
  lastTurn = mine.catch(() => {});
  return mine;
}
