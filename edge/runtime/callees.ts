/**
 * Which function a called name stands for, and its code, for a whole program: asked of the database by the program's root alone,
 * each once, however many functions call it and however deep they stand (README: what a run costs the database). All calls of a
 * program meet the same version.
 */
import { resolveFunction, readCode, type ResolvedFunction } from "../functions.ts";
import type { Env } from "../env.ts";
import type { Result } from "./result.ts";
import type { Semaphore } from "./semaphore.ts";

/** Different functions that one program calls: beyond it the one that was looked up first is forgotten, and looked up again. */
const PROGRAM_CALLEES_MAX = 1_000;

export class Callees {
  readonly #env: Env;
  readonly #of: { readonly tenant: string; readonly project: string };
  readonly #connections: Semaphore;
  readonly #found = new Map<string, Promise<ResolvedFunction | null>>();
  /** Being read now. */
  readonly #reading = new Map<string, Promise<Result<string>>>();

  constructor(env: Env, of: { readonly tenant: string; readonly project: string }, connections: Semaphore) {
    this.#env = env;
    this.#of = { tenant: of.tenant, project: of.project };
    this.#connections = connections;
  }

  find(name: string): Promise<ResolvedFunction | null> {
    const known = this.#found.get(name);
    if (known) return known;
    if (this.#found.size >= PROGRAM_CALLEES_MAX) this.#found.delete(this.#found.keys().next().value ?? "");
    const found = this.#connections.run(() => resolveFunction(this.#env, { ...this.#of, name }));
    this.#found.set(name, found);
    found.catch(() => this.#found.delete(name));
    return found;
  }

  code(version: string): Promise<Result<string>> {
    const known = this.#reading.get(version);
    if (known) return known;
    const reading = this.#connections
      .run(() => readCode(this.#env, { tenant: this.#of.tenant, version }))
      .finally(() => this.#reading.delete(version));
    this.#reading.set(version, reading);
    return reading;
  }
}
