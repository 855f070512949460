/**
 * A file that names the living process which owns something: made whole or not at all, refused beside a living owner, taken over from a
 * dead one by exactly one of all who try.
 *
 * A hard link to a finished file is the test-and-set: nobody ever sees a lock without its owner's name. Whoever would replace a dead
 * owner's lock first takes a lock on doing so (`<lock>.<pid of the dead>`), and under it looks again: what is still the dead one's
 * cannot change before it lets go.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { isAlive, processStarted, type ProcessName } from "./process.ts";

const owner = z.object({ pid: z.int(), started: z.string() });
/** A file that a crash of the machine left empty: nobody's. */
const NOBODY: ProcessName = { pid: 0, started: "" };

/** A file system without hard links (exFAT, some network mounts): there another may see the lock for a moment before its owner's name. */
const NO_LINKS: ReadonlySet<string> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"]);

export type Taken = { readonly type: "taken"; readonly release: () => void } | { readonly type: "refused"; readonly owner: ProcessName };

export const thisProcess = (): ProcessName => ({ pid: process.pid, started: processStarted(process.pid) ?? "" });

let drafts = 0;

export function takeLock(path: string): Taken {
  const me = thisProcess();
  const draft = `${path}.draft-${me.pid}-${(drafts += 1)}`;
  writeFileSync(draft, `${JSON.stringify(me)}\n`);
  try {
    for (;;) {
      if (linked(draft, path)) return { type: "taken", release: () => release(path, me) };
      const holder = ownerOf(path);
      if (holder === null) continue; // let go meanwhile
      if (isAlive(holder)) return { type: "refused", owner: holder };
      const replacing = takeLock(`${path}.${holder.pid}`);
      if (replacing.type === "refused") return replacing;
      try {
        const now = ownerOf(path);
        if (now === null || !same(now, holder)) continue;
        renameSync(draft, path);
        return { type: "taken", release: () => release(path, me) };
      } finally {
        replacing.release();
      }
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

function linked(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (!NO_LINKS.has(code ?? "")) throw error;
  }
  try {
    writeFileSync(path, readFileSync(draft), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Null: there is no lock. */
function ownerOf(path: string): ProcessName | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    return owner.parse(JSON.parse(text));
  } catch {
    return NOBODY;
  }
}

/** Only if it is ours: the folder may have been removed, and be another's by now. */
function release(path: string, me: ProcessName): void {
  const holder = ownerOf(path);
  if (holder !== null && same(holder, me)) rmSync(path, { force: true });
}

const same = (a: ProcessName, b: ProcessName): boolean => a.pid === b.pid && a.started === b.started;
