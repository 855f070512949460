/**
 * Called functions. Each runs in a Run object of its own, named by its place in the program, so that a replayed parent finds the
 * same run again. The parent starts it and does not wait on that request: the child tells it when it is over (`done`), so that a
 * fan-out of any width holds no connection for longer than a start takes.
 */
import type { Failure } from "../../schema/core/errors.ts";
import { failure } from "../../schema/core/errors.ts";
import { hashParts } from "../../schema/core/hash.ts";
import type { RunId } from "../../schema/core/ids.ts";
import type { GuestRequest } from "../../schema/core/wire/guest.ts";
import type { Env } from "../env.ts";
import type { ResolvedFunction } from "../functions.ts";
import type { RunObject, RunSpec } from "../objects/run-spec.ts";
import type { ExecutionIdentity, HostAddress, Outcome } from "./execution.ts";
import { bad, good, type Result } from "./result.ts";
import type { Semaphore } from "./semaphore.ts";
import { calledRun } from "./tables.ts";

/** How deep functions may call functions: beyond it `too_many_steps`. */
const DEPTH_MAX = 8;
/** Different functions that one execution calls; each is looked up once, so that all its calls meet the same version. */
const CALLEES_MAX = 64;

type ChildrenOptions = {
  readonly env: Env;
  readonly identity: ExecutionIdentity;
  readonly host: HostAddress;
  readonly deadline_at_ms: number;
  readonly connections: Semaphore;
  /** What a name stands for in this program; rejects where that cannot be known now. */
  readonly find: (name: string) => Promise<ResolvedFunction | null>;
};

export class Children {
  readonly #options: ChildrenOptions;
  readonly #waiting = new Map<RunId, (outcome: Outcome) => void>();
  readonly #callees = new Map<string, Promise<ResolvedFunction | null>>();
  #closed = false;

  constructor(options: ChildrenOptions) {
    this.#options = options;
  }

  async call(request: Extract<GuestRequest, { op: "call" }>): Promise<Result<unknown>> {
    const { identity, connections } = this.#options;
    if (identity.depth >= DEPTH_MAX) return bad("too_many_steps", `Functions may call each other ${DEPTH_MAX} deep.`);
    let callee: ResolvedFunction | null;
    try {
      callee = await this.#resolve(request.function);
    } catch {
      return bad("database_unavailable");
    }
    if (!callee) return bad("function_not_found", `There is no function ${request.function} in this project.`);
    if (this.#closed) return bad("cancelled");
    const run = calledRun(identity, request.path);
    const over = Promise.withResolvers<Outcome>();
    this.#waiting.set(run, over.resolve);
    try {
      const started = await connections.run(() => this.#object(run).start(this.#spec(run, callee, request)));
      if (started.type === "refused") return { ok: false, error: started.error };
      const outcome = started.outcome ?? (await over.promise);
      return resultOf(outcome);
    } catch {
      return bad("internal", `The function ${request.function} could not be started.`);
    } finally {
      this.#waiting.delete(run);
    }
  }

  done(run: RunId, outcome: Outcome): void {
    this.#waiting.get(run)?.(outcome);
  }

  close(reason: string): void {
    this.#closed = true;
    const error: Failure = failure("cancelled", reason);
    for (const [run, resolve] of this.#waiting) {
      void stopCalled({ ...this.#options, runs: [run], reason });
      resolve({ status: "cancelled", error });
    }
  }

  #resolve(name: string): Promise<ResolvedFunction | null> {
    const known = this.#callees.get(name);
    if (known) return known;
    if (this.#callees.size >= CALLEES_MAX) return Promise.resolve(null);
    const resolved = this.#options.find(name);
    this.#callees.set(name, resolved);
    resolved.catch(() => this.#callees.delete(name));
    return resolved;
  }

  #object(run: RunId): RunObject {
    return this.#options.env.RUNS.getByName(run);
  }

  #spec(run: RunId, callee: ResolvedFunction, request: Extract<GuestRequest, { op: "call" }>): RunSpec {
    const { identity, host, deadline_at_ms } = this.#options;
    const input = JSON.stringify(request.input ?? null);
    return {
      run,
      identity: {
        ...identity,
        function: callee.function,
        function_name: callee.name,
        version: callee.version,
        agent: request.agent ?? callee.name,
        path_prefix: `${identity.path_prefix}${request.path}/`,
        depth: identity.depth + 1,
        root: identity.root ?? host,
      },
      code_hash: callee.code_hash,
      config_hash: callee.config_hash,
      config: callee.config,
      input,
      request: hashParts("call", callee.function, input),
      deadline_at_ms: Math.min(deadline_at_ms, Date.now() + callee.config.timeout_ms),
      parent: host,
    };
  }
}

/** Tells called functions that their caller is over. One that cannot be told asks for itself, at its next alarm (objects/run.ts). */
export async function stopCalled(options: {
  readonly env: Env;
  readonly connections: Semaphore;
  readonly runs: readonly RunId[];
  readonly reason: string;
}): Promise<void> {
  const { env, connections, runs, reason } = options;
  const object = (run: RunId): RunObject => env.RUNS.getByName(run);
  await Promise.all(runs.map((run) => connections.run(() => object(run).stop(reason)).catch(() => undefined)));
}

function resultOf(outcome: Outcome): Result<unknown> {
  return outcome.status === "done" ? good(outcome.output) : { ok: false, error: outcome.error };
}
