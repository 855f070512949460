/**
 * Time for leases: milliseconds that never step back or jump, comparable within this process.
 *
 * What is read from a socket after the event loop stalled arrived at an unknown moment of the stall. A lease counted from the
 * reading would then be too long. So `arrivedAfterMs` names an instant at which the loop certainly polled before the bytes being
 * handled now arrived: the tick before the last (after a stall the last tick runs in the same turn as the reading).
 */
const TICK_MS = 100;

export function monotoneMs(): number {
  return performance.timeOrigin + performance.now();
}

let older = monotoneMs();
let newer = older;
setInterval(() => {
  older = newer;
  newer = monotoneMs();
}, TICK_MS).unref();

export function arrivedAfterMs(): number {
  return older;
}
