/** Files that must be right after a crash: written beside, flushed, renamed; appended and flushed; locked by one process. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** Readers see the old content or the new, never a part. 0600: state files hold a token. */
export function writeAtomically(path: string, content: string): void {
  const beside = `${path}.${process.pid}.new`;
  const fd = openSync(beside, "w", 0o600);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(beside, path);
  flushFolder(dirname(path));
}

/** A rename or a new file is durable only when its folder is. */
export function flushFolder(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * One process a state folder. Node has no flock, but SQLite locks its file by the operating system, which lets go when the
 * process ends, however it ends. Returns what keeps the lock, or null when another process has it.
 */
export function lockFolder(state_dir: string): { release(): void } | null {
  const db = new DatabaseSync(join(state_dir, "lock.sqlite"), { timeout: 0 });
  try {
    db.exec("BEGIN EXCLUSIVE");
    return { release: () => db.close() };
  } catch {
    db.close();
    return null;
  }
}
