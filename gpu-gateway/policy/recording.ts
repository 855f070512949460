/**
 * The form of a recording of decisions: what a scheduler was told, when, and what it said, such that another one, made from the header
 * and told the same, must say the same (I9). One JSON object a line:
 *
 *   {"format":"millrace-decisions","version":1,"policies":{…}}     first
 *   {"at":…,"event":{…},"effects":[…]}                             one for each event, in order; `at` is policy time
 *   {"end":"stopped","events":…,"digest":"…"}                      last; absent when the gateway's process died
 *
 * The digest is SHA-256, in hex, of what `digested` gives for each event in order.
 */
import type { Micros } from "../../schema/core/time.ts";
import type { PolicyChoice } from "./catalogue.ts";
import type { Effect } from "./effects.ts";
import type { SchedulerEvent } from "./events.ts";

export const DECISIONS_FORMAT = "millrace-decisions";
export const DECISIONS_VERSION = 1;

export type DecisionsHeader = {
  readonly format: typeof DECISIONS_FORMAT;
  readonly version: typeof DECISIONS_VERSION;
  readonly policies: PolicyChoice;
};
export type Decision = { readonly at: Micros; readonly event: SchedulerEvent; readonly effects: readonly Effect[] };
/** `limit`: the file is as large as it may be. `overrun`: the disk was slower than the decisions. */
export const DECISIONS_ENDS = ["stopped", "fenced", "limit", "overrun"] as const;
export type DecisionsEnd = (typeof DECISIONS_ENDS)[number];
export type DecisionsFooter = { readonly end: DecisionsEnd; readonly events: number; readonly digest: string };

/** `effects` as JSON. */
export const digested = (effects: string): string => `${effects}\n`;
