/** The state folder: one gateway at a time, and who it is across restarts (the owner of its cell's lease). */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { identify, isRunning, processIdentity, type ProcessIdentity } from "./node-agent/processes.ts";

export type Place = { readonly owner: string; leave(): void };
export type PlaceOutcome = { readonly type: "taken"; readonly place: Place } | { readonly type: "refused"; readonly reason: string };

export function takePlace(state_dir: string): PlaceOutcome {
  try {
    mkdirSync(state_dir, { recursive: true, mode: 0o700 });
  } catch (error) {
    return { type: "refused", reason: `state_dir ${state_dir} cannot be made: ${(error as Error).message}` };
  }
  const file = path.join(state_dir, "gateway.json");
  const before = readPlace(file);
  if (before !== null && before.process !== null && isRunning(before.process))
    return { type: "refused", reason: `gateway ${before.process.pid} uses ${state_dir} already; stop it first` };
  const owner = before?.owner ?? `gw_${randomBytes(16).toString("hex")}`;
  // Beside, then over: on a full disk the old content stays, and with it who we are.
  const write = (identity: ProcessIdentity | null) => {
    writeFileSync(`${file}.next`, `${JSON.stringify({ owner, process: identity })}\n`, { mode: 0o600 });
    renameSync(`${file}.next`, file);
  };
  try {
    write(identify(process.pid));
  } catch (error) {
    return { type: "refused", reason: `state_dir ${state_dir} cannot be written: ${(error as Error).message}; free space in it` };
  }
  return { type: "taken", place: { owner, leave: () => leave(write) } };
}

function leave(write: (identity: null) => void): void {
  try {
    write(null);
  } catch {
    // The disk is full: that we are gone is seen by our process, too.
  }
}

function readPlace(file: string): { readonly owner: string; readonly process: ProcessIdentity | null } | null {
  try {
    const { owner, process: identity } = JSON.parse(readFileSync(file, "utf8")) as { owner?: unknown; process?: unknown };
    const parsed = processIdentity.nullable().safeParse(identity);
    return typeof owner === "string" && parsed.success ? { owner, process: parsed.data } : null;
  } catch {
    // None yet, or cut off by a crash: then this is another gateway, and the old one's lease runs out.
    return null;
  }
}
