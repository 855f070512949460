/**
 * The node's line of time: UTC nanoseconds, read once from the wall clock at start and carried on by the monotonic clock, so
 * that a stepped wall clock moves nothing. Strictly increasing. An instant that leaves the process is on disk first, so that
 * a restarted agent, on a machine whose wall clock went back, never answers with an earlier one: metering cuts at these.
 */
import { closeSync, fdatasyncSync, openSync, readSync, writeSync } from "node:fs";
import type { Nanos } from "../../schema/core/time.ts";
import { nanos } from "../../schema/core/time.ts";

const DIGITS = 20;

export type Sources = { readonly wall_ms: () => number; readonly monotonic_ns: () => bigint };
const REAL: Sources = { wall_ms: () => Date.now(), monotonic_ns: () => process.hrtime.bigint() };

export class NodeClock {
  readonly #fd: number;
  readonly #sources: Sources;
  readonly #anchor: bigint;
  #last: bigint;

  /** `floor`: the last instant of any other record of this node. */
  constructor(path: string, floor: bigint, sources: Sources = REAL) {
    this.#fd = openSync(path, "a+", 0o600);
    closeSync(this.#fd);
    this.#fd = openSync(path, "r+");
    this.#sources = sources;
    this.#last = later(floor, this.#stored());
    this.#anchor = later(BigInt(Math.floor(sources.wall_ms())) * 1_000_000n, this.#last) - sources.monotonic_ns();
  }

  now(): Nanos {
    this.#last = later(this.#anchor + this.#sources.monotonic_ns(), this.#last + 1n);
    return nanos(this.#last);
  }

  /** An instant that may be told to others. */
  confirm(): Nanos {
    const instant = this.now();
    // Fixed width, in place: a crash of the process leaves the old digits or the new.
    writeSync(this.#fd, instant.toString().padStart(DIGITS, "0"), 0);
    fdatasyncSync(this.#fd);
    return instant;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #stored(): bigint {
    const buffer = Buffer.alloc(DIGITS);
    const length = readSync(this.#fd, buffer, 0, DIGITS, 0);
    const text = buffer.toString("latin1", 0, length);
    return /^\d{20}$/.test(text) ? BigInt(text) : 0n;
  }
}

const later = (a: bigint, b: bigint): bigint => (a > b ? a : b);
