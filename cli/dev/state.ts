/**
 * The state folder of a running product (`.millrace/` unless --state names another): run.json says what runs where, for the
 * CLI, for scripts, and for the next start after a crash. Secrets lie in files of mode 0600.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";

const processName = z.object({ pid: z.int(), started: z.string() });
export const runFile = z.object({
  supervisor: processName,
  edge: z.object({ url: z.string(), process: processName }).optional(),
  gateway: z.object({ url: z.string(), process: processName }).optional(),
  postgres: z.object({ url: z.string(), pid: z.int().optional() }).optional(),
  key_file: z.string(),
  started_at: z.string(),
  ready: z.boolean(),
});
export type RunFile = z.infer<typeof runFile>;

/** Where the product of this checkout lives unless a flag or MILLRACE_STATE names another folder. */
export const DEFAULT_STATE = join(import.meta.dirname, "..", "..", ".millrace");

export class StateFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = resolve(path);
  }

  create(): void {
    mkdirSync(this.path, { recursive: true, mode: 0o755 });
  }

  file(...name: string[]): string {
    return join(this.path, ...name);
  }

  readRun(): RunFile | null {
    try {
      const parsed = runFile.safeParse(JSON.parse(readFileSync(this.file("run.json"), "utf8")));
      return parsed.success ? parsed.data : null;
    } catch {
      return null;
    }
  }

  /** Whole or not at all: readers never see half a file. */
  writeRun(run: RunFile): void {
    this.#replace("run.json", `${JSON.stringify(run, null, 2)}\n`, 0o600);
  }

  removeRun(): void {
    rmSync(this.file("run.json"), { force: true });
  }

  /** A secret of 256 bits, made once and kept. */
  secret(name: string): string {
    const path = this.file(name);
    if (existsSync(path)) return readFileSync(path, "utf8").trim();
    const value = randomBytes(32).toString("base64url");
    this.writeSecret(name, value);
    return value;
  }

  readSecret(name: string): string | null {
    const path = this.file(name);
    return existsSync(path) ? readFileSync(path, "utf8").trim() : null;
  }

  writeSecret(name: string, value: string): string {
    this.#replace(name, `${value}\n`, 0o600);
    return this.file(name);
  }

  #replace(name: string, text: string, mode: number): void {
    const path = this.file(name);
    writeFileSync(`${path}.new`, text, { mode });
    chmodSync(`${path}.new`, mode);
    renameSync(`${path}.new`, path);
  }
}
