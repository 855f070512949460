/** Random ids for requests and calls. Entropy is drawn in blocks: a system call per request would show in the latency. */
import { randomFillSync } from "node:crypto";
import type { CallId } from "../../schema/core/ids.ts";

const ID_BYTES = 16;
const pool = Buffer.alloc(ID_BYTES * 256);
let used = pool.length;

function hex(): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += ID_BYTES;
  return pool.toString("hex", used - ID_BYTES, used);
}

export const requestId = (): string => `req_${hex()}`;
export const newCallId = (): CallId => `call_${hex()}` as CallId;
