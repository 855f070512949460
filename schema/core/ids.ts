/**
 * Every thing has an id of its own type, so that a run cannot be passed where a session is meant.
 * Ids made by chance come from the caller (randomness is an argument); ids that name something
 * repeatable are derived from what they name (see `deriveId`), so that a repeat has the same id.
 */
import { hashParts } from "./hash.ts";

declare const brand: unique symbol;
export type Id<Kind extends string> = string & { readonly [brand]: Kind };

export type TenantId = Id<"tenant">;
export type ProjectId = Id<"project">;
export type FunctionId = Id<"function">;
export type VersionId = Id<"version">;
export type KeyId = Id<"key">;
export type RunId = Id<"run">;
export type SessionId = Id<"session">;
/** All the model calls of one run or turn: the run's id, or `<session>/<turn>`. */
export type ProgramId = Id<"program">;
export type CallId = Id<"call">;
export type LegId = Id<"leg">;
export type CellId = Id<"cell">;
export type NodeId = Id<"node">;
export type GroupId = Id<"group">;
export type InstanceId = Id<"instance">;
/** @public */
export type UsageId = Id<"usage">;
/** @public */
export type AccountId = Id<"account">;
/** @public */
export type TransferId = Id<"transfer">;

const PREFIX = {
  tenant: "ten",
  project: "prj",
  function: "fn",
  version: "ver",
  key: "key",
  run: "run",
  session: "ses",
  program: "prg",
  call: "call",
  leg: "leg",
  cell: "cell",
  node: "node",
  group: "grp",
  instance: "ins",
  usage: "use",
  account: "acc",
  transfer: "trf",
} as const;
export type IdKind = keyof typeof PREFIX;

/** 1 to 128 characters that are safe in a URL, a log line, a file name and a metric label. */
export const ID_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$/;

/** Asserts the type of an id that came from a trusted place (our own database, our own frame). */
export function asId<Kind extends IdKind>(value: string): Id<Kind> {
  return value as Id<Kind>;
}

/** An id from 128 random bits that the caller drew. `entropy` needs at least 16 bytes. */
export function randomId<Kind extends IdKind>(kind: Kind, entropy: Uint8Array): Id<Kind> {
  if (entropy.length < 16) throw new RangeError("randomId needs 16 bytes of entropy");
  let hex = "";
  for (const byte of entropy.subarray(0, 16)) hex += byte.toString(16).padStart(2, "0");
  return `${PREFIX[kind]}_${hex}` as Id<Kind>;
}

/** The id of something that its parts determine. Parts are length-prefixed: ("b-c","d") is not ("b","c-d"). */
export function deriveId<Kind extends IdKind>(kind: Kind, ...parts: string[]): Id<Kind> {
  return `${PREFIX[kind]}_${hashParts(kind, ...parts).slice(0, 32)}` as Id<Kind>;
}

/** `call_id = hash(run, step path)`: the same step of the same run is the same call, however often it is sent. */
export function callId(program: ProgramId, step_path: string): CallId {
  return deriveId("call", program, step_path);
}

/** A leg is named by its call, the attempt at the call (from 0) and its role in it. */
export function legId(call: CallId, attempt: number, role: "prefill" | "decode" | "whole"): LegId {
  return `${call}.${attempt}.${role}` as LegId;
}
