/** What readers of one call a line share: a line is taken, or is not as it should be, which ends the reading unless told otherwise. */
import { LINE_BYTES_MAX, linesOf } from "./bytes.ts";
import { TRACE_BLOCKS_MAX, TRACE_CALLS_MAX, type OpenTrace, type TraceCall, TraceFault } from "./trace.ts";

export type ReadOptions = {
  /** Of calls, counted after the window. */
  readonly limit: number | null;
  /** The part of the trace to take, from its own first instant on. */
  readonly from_ms: number;
  readonly to_ms: number | null;
  readonly skip_malformed: boolean;
};
export const READ_ALL: ReadOptions = { limit: null, from_ms: 0, to_ms: null, skip_malformed: false };

/** Of skipped lines the first few are kept, to be shown. */
export type Skipped = { count: number; readonly first: string[] };
const SKIPPED_SHOWN_MAX = 5;

/** `call`: one of the trace. `nothing`: a header, a blank line. */
export type Parsed =
  | { readonly type: "call"; readonly call: TraceCall }
  | { readonly type: "nothing" }
  | { readonly type: "malformed"; readonly what: string };
/** A format: told of each line in turn, from 1. */
export interface LineFormat {
  parse(text: string, line: number): Parsed;
}

export async function readLines(file: string, format: LineFormat, into: OpenTrace, options: ReadOptions): Promise<Skipped> {
  const skipped: Skipped = { count: 0, first: [] };
  let origin_us: number | null = null;
  for await (const { line, text } of linesOf(file)) {
    const parsed: Parsed =
      text === null ? { type: "malformed", what: `the line is longer than ${LINE_BYTES_MAX} bytes` } : format.parse(text, line);
    if (parsed.type === "malformed") {
      skip(skipped, new TraceFault(file, line, parsed.what), options);
      continue;
    }
    if (parsed.type === "nothing") continue;
    origin_us ??= parsed.call.at_us;
    const at_us = parsed.call.at_us - origin_us;
    // Rows may be a little out of order, so what lies behind the window does not end the reading.
    if (at_us < options.from_ms * 1_000 || (options.to_ms !== null && at_us >= options.to_ms * 1_000)) continue;
    if (into.calls >= TRACE_CALLS_MAX || into.blocks >= TRACE_BLOCKS_MAX)
      throw new TraceFault(
        file,
        line,
        `more than ${TRACE_CALLS_MAX} calls or ${TRACE_BLOCKS_MAX} blocks; take a part with --limit or --to-ms`,
      );
    into.push({ ...parsed.call, at_us: at_us - options.from_ms * 1_000 });
    if (options.limit !== null && into.calls >= options.limit) break;
  }
  return skipped;
}

export function skip(skipped: Skipped, fault: TraceFault, options: ReadOptions): void {
  if (!options.skip_malformed) throw fault;
  skipped.count++;
  if (skipped.first.length < SKIPPED_SHOWN_MAX) skipped.first.push(fault.message);
}

/** A whole number from `min`, or what is wrong with it. */
export function whole(name: string, value: unknown, min: number): number | string {
  if (typeof value !== "number" || !Number.isFinite(value)) return `${name} is ${shown(value)}, not a number`;
  if (!Number.isSafeInteger(value)) return `${name} is ${shown(value)}, not a whole number`;
  return value < min ? `${name} is ${value}; the least is ${min}` : value;
}

export function shown(value: unknown): string {
  if (value === undefined) return "missing";
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** The line as a JSON object, or what is wrong with it. */
export function jsonObject(text: string): Record<string, unknown> | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return `is not JSON (${error instanceof Error ? error.message : String(error)})`;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return `is ${shown(value)}, not a JSON object`;
  return value as Record<string, unknown>;
}
