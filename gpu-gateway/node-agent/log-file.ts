/** An engine's output, kept within a bound: two files, the older of which is dropped when the newer is half the bound (I8). */
import { closeSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { LOG_BYTES_MAX, LOG_GROUPS_MAX } from "./limits.ts";

export class LogFile {
  readonly #path: string;
  #fd: number | null;
  #bytes = 0;

  constructor(folder: string, name: string) {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    dropOldest(folder);
    this.#path = join(folder, `${name}.log`);
    this.#fd = openSync(this.#path, "w", 0o600);
  }

  write(chunk: Buffer): void {
    if (this.#fd === null) return;
    try {
      if (this.#bytes + chunk.length > LOG_BYTES_MAX / 2) this.#turn();
      writeSync(this.#fd, chunk);
      this.#bytes += chunk.length;
    } catch {
      // A full disk costs the log, not the engine.
      this.close();
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  #turn(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
    renameSync(this.#path, `${this.#path}.old`);
    this.#fd = openSync(this.#path, "w", 0o600);
    this.#bytes = 0;
  }
}

function dropOldest(folder: string): void {
  const logs = readdirSync(folder)
    .filter((name) => name.endsWith(".log"))
    .map((name) => ({ name, at: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.at - a.at || (a.name < b.name ? -1 : 1));
  for (const { name } of logs.slice(LOG_GROUPS_MAX - 1))
    for (const file of [name, `${name}.old`]) rmSync(join(folder, file), { force: true });
}
