/**
 * One durable execution of a function.
 *
 *   (nothing) ──start──▶ running ──outcome──▶ done | failed | cancelled ──RETENTION_MS──▶ (nothing)
 *                          ▲                    │ failed before the guest's code began
 *                          └──────start─────────┘
 *                          │  ▲
 *               evicted    ▼  │ alarm, or any request: replayed from its memoised steps (D11)
 *                        (asleep)
 *
 * The object is named by the run's id, and an Idempotency-Key determines that id: so the object itself is what makes two requests
 * one run and one bill. While it runs, an alarm every WATCH_MS finds it again should it have been evicted.
 */
import { DurableObject } from "cloudflare:workers";
import { failure } from "../../schema/core/errors.ts";
import type { RunId } from "../../schema/core/ids.ts";
import { RESULT_BYTES_MAX } from "../../schema/core/wire/guest.ts";
import { BODY_BYTES_MAX } from "../../schema/core/wire/limits.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Env } from "../env.ts";
import { codeOf, type ResolvedFunction } from "../functions.ts";
import { createGatewayClient, type GatewayClient } from "../gateway-client.ts";
import type { GatewayCall } from "../gateway-client-call.ts";
import {
  createExecution,
  forgetExecution,
  stopCalled,
  type Execution,
  type HostAddress,
  type ModelLink,
  type Outcome,
} from "../runtime/execution.ts";
import { hostAt } from "../runtime/execution-host.ts";
import { objectLimits } from "../runtime/object-limits.ts";
import { relayedLink } from "../runtime/relayed-link.ts";
import type { Result } from "../runtime/result.ts";
import { utf8FitsIn } from "../runtime/utf8.ts";
import { RunDebts } from "./run-debts.ts";
import { RunReaders } from "./run-events.ts";
import { RUN_EVENTS_MAX, RunLog, viewOf, type StoredRun } from "./run-log.ts";
import type { EventsReader, LogPage, Owner, RunObject, RunSpec, RunStarted, RunView } from "./run-spec.ts";
import { SessionKeys } from "./session-keys.ts";

/** How long a stopped run stays unnoticed at most. */
const WATCH_MS = 30_000;
/** Attempts at a run whose object keeps dying: then it fails with `internal`. */
const ATTEMPTS_MAX = 5;
/** Requests that wait for the end at once: a further one is answered with the run as it stands. */
const WAITERS_MAX = 64;
/** A run's result, events and logs are kept so long after it is over; then its id is `run_not_found`. */
const RETENTION_MS = 7 * 24 * 3_600_000;

export class Run extends DurableObject<Env> implements RunObject {
  readonly #log: RunLog;
  readonly #readers: RunReaders;
  readonly #debts: RunDebts;
  readonly #waiting = new Set<() => void>();
  #live: { readonly execution: Execution; readonly over: Promise<void> } | undefined;
  #events = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#log = new RunLog(ctx.storage.sql);
    ctx.storage.transactionSync(() => this.#log.upgrade());
    this.#readers = new RunReaders(ctx.storage, this.#log, new SessionKeys(env.DB, objectLimits(ctx).connections));
    this.#debts = new RunDebts(ctx.storage.sql, env, objectLimits(ctx));
  }

  async start(spec: RunSpec): Promise<RunStarted> {
    const anew = this.#neverBegan(this.#visible(spec.identity));
    if (this.#log.exists && !anew) return this.#attach(spec);
    // JSON that came shorter may be longer as it is kept: 1e20 is.
    if (!utf8FitsIn(spec.input, BODY_BYTES_MAX)) {
      return { type: "refused", error: failure(spec.parent ? "invalid_request" : "body_too_large", INPUT_TOO_LARGE) };
    }
    const now_ms = Date.now();
    this.ctx.storage.transactionSync(() => {
      if (anew) this.#log.erase();
      this.#log.create(spec, now_ms, spec.deadline_at_ms ?? now_ms + spec.config.timeout_ms);
    });
    await this.ctx.storage.setAlarm(now_ms + WATCH_MS);
    this.#ensureLive();
    return { type: "created", view: viewOf(this.#log.read()) };
  }

  /** A run that failed for a reason of ours before any of its code was executed: nothing was done, nothing is billed, the key is free. */
  #neverBegan(stored: StoredRun | null): boolean {
    return stored?.outcome?.status === "failed" && stored.outcome.began === false;
  }

  #attach(spec: RunSpec): RunStarted {
    const stored = this.#log.read();
    if (!this.#visible(spec.identity)) return { type: "refused", error: failure("run_not_found") };
    if (stored.spec.request !== spec.request) {
      return { type: "refused", error: failure(spec.parent ? "nondeterministic_step" : "idempotency_mismatch") };
    }
    this.#ensureLive();
    return { type: "attached", view: viewOf(stored), ...(stored.outcome ? { outcome: stored.outcome } : {}) };
  }

  async view(owner: Owner): Promise<RunView | null> {
    const stored = this.#visible(owner);
    if (stored) this.#ensureLive();
    return stored ? viewOf(stored) : null;
  }

  async finished(owner: Owner): Promise<RunView | null> {
    for (;;) {
      const stored = this.#visible(owner);
      if (!stored || stored.outcome) return stored ? viewOf(stored) : null;
      this.#ensureLive();
      if (this.#waiting.size >= WAITERS_MAX) return viewOf(stored);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  async events(reader: EventsReader, after: number): Promise<ReadableStream<Uint8Array> | null> {
    if (!this.#visible(reader) || this.#readers.full) return null;
    this.#ensureLive();
    return this.#readers.stream(reader.key, after);
  }

  async logs(owner: Owner, after: number): Promise<LogPage | null> {
    return this.#visible(owner) ? this.#log.logs(after) : null;
  }

  async cancel(owner: Owner, reason: string): Promise<RunView | null> {
    if (!this.#visible(owner)) return null;
    await this.#stop(reason);
    return this.finished(owner);
  }

  async stop(reason: string): Promise<void> {
    if (this.#log.exists) await this.#stop(reason);
  }

  async #stop(reason: string): Promise<void> {
    if (this.#live) this.#live.execution.cancel(reason);
    else if (!this.#log.read().outcome) this.#finish({ status: "cancelled", error: failure("cancelled", reason) });
  }

  // --- the execution ---

  /** Only what changes in here begins an attempt. */
  #ensureLive(): void {
    if (this.#live || !this.#log.exists) return;
    const stored = this.#log.read();
    if (stored.outcome) return;
    if (this.#log.countAttempt() > ATTEMPTS_MAX) {
      this.#finish({ status: "failed", error: failure("internal", `The run was interrupted ${ATTEMPTS_MAX} times.`) });
      return;
    }
    this.#events = this.#log.lastSeq;
    const { execution, close } = this.#createExecution(stored);
    const over = execution.run(JSON.parse(this.#log.input())).then((outcome) => {
      close();
      this.#live = undefined;
      this.#finish(outcome);
    });
    this.#live = { execution, over };
    this.ctx.waitUntil(over);
  }

  #createExecution(stored: StoredRun): { execution: Execution; close: () => void } {
    const { ctx, env } = this;
    const { identity, config, code_hash, config_hash } = stored.spec;
    const { tenant, project, key, version } = identity;
    const host: HostAddress = { binding: "RUNS", id: ctx.id.toString() };
    let link: ModelLink;
    let client: GatewayClient | undefined;
    const { connections } = objectLimits(ctx);
    const askRoot = (root: HostAddress) => (of: string) => connections.run(() => hostAt(env, root).calleeCode(identity.program, of));
    if (identity.root) {
      link = relayedLink({ env, root: identity.root, program: identity.program, connections });
    } else {
      client = createGatewayClient({ env, link_id: stored.spec.run, claims: { tenant, project, key, scopes: ["infer"] } });
      link = client;
    }
    const execution = createExecution({
      ctx,
      env,
      host,
      identity,
      config,
      code: codeOf(env, { tenant, version, code_hash, config_hash }, identity.root && askRoot(identity.root)),
      gateway: link,
      deadline_at_ms: stored.deadline_at_ms,
      sink: {
        append: (facts) => {
          this.#log.append(facts);
          for (const fact of facts) if (fact.type !== "log") this.#events += 1;
          if (this.#events >= RUN_EVENTS_MAX) this.#live?.execution.fail(TOO_MANY_EVENTS);
          this.#readers.moved();
        },
      },
    });
    return { execution, close: () => client?.close() };
  }

  #finish(outcome: Outcome): void {
    const now_ms = Date.now();
    const called = this.ctx.storage.transactionSync(() => {
      const stored = this.#log.read();
      if (stored.outcome) return [];
      this.#log.finish(provenOutcome(stored, storable(outcome)), now_ms);
      if (!this.#neverBegan(this.#log.read())) this.#debts.incur(stored, now_ms);
      return forgetExecution(this.ctx.storage.sql, stored.spec.identity);
    });
    const { connections } = objectLimits(this.ctx);
    this.ctx.waitUntil(stopCalled({ env: this.env, connections, runs: called, reason: CALLER_IS_OVER }));
    this.#readers.moved();
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
    this.ctx.waitUntil(this.#payAndSleep(now_ms));
  }

  async #payAndSleep(now_ms: number): Promise<void> {
    try {
      await this.#debts.pay(this.#log.read(), now_ms);
    } finally {
      await this.#setAlarm();
    }
  }

  /** Several things wait for one alarm: it is always set to the next of them. */
  override async alarm(): Promise<void> {
    if (!this.#log.exists) return;
    const now_ms = Date.now();
    try {
      this.#ensureLive();
      const stored = this.#log.read();
      const { finished_at_ms } = stored;
      if (finished_at_ms !== null && now_ms >= finished_at_ms + RETENTION_MS) {
        await this.ctx.storage.deleteAll();
        return;
      }
      await this.#debts.pay(stored, now_ms);
      await this.#stopIfOrphan(stored);
    } finally {
      await this.#setAlarm();
    }
  }

  /** A caller may have died with word of its end unsent: so a called run asks, at each alarm. One that cannot be asked may go on. */
  async #stopIfOrphan({ spec, outcome }: StoredRun): Promise<void> {
    const { parent, identity } = spec;
    if (!parent || outcome) return;
    const { connections } = objectLimits(this.ctx);
    const goes_on = await connections.run(() => hostAt(this.env, parent).executes(identity.program)).catch(() => true);
    if (!goes_on) await this.#stop(CALLER_IS_OVER);
  }

  async #setAlarm(): Promise<void> {
    if (!this.#log.exists) return;
    const { finished_at_ms } = this.#log.read();
    if (finished_at_ms === null) return this.ctx.storage.setAlarm(Date.now() + WATCH_MS);
    const forget_at_ms = finished_at_ms + RETENTION_MS;
    // What is due at once may say so with a moment long ago, which is no time for an alarm.
    const due_ms = Math.max(this.#debts.nextDueAtMs ?? forget_at_ms, Date.now());
    await this.ctx.storage.setAlarm(Math.min(forget_at_ms, due_ms));
  }

  #visible(owner: Owner): StoredRun | null {
    if (!this.#log.exists) return null;
    const stored = this.#log.read();
    const { tenant, project } = stored.spec.identity;
    return tenant === owner.tenant && project === owner.project ? stored : null;
  }

  // --- ExecutionHost: for capabilities and called functions ---

  async guest(execution: string, request: string): Promise<string> {
    return this.#speaking(execution)?.guest(request) ?? OVER;
  }

  async guestStream(execution: string, request: string): Promise<ReadableStream<Uint8Array>> {
    return this.#speaking(execution)?.guestStream(request) ?? new Response(`${OVER_LINE}\n`).body ?? new ReadableStream();
  }

  #speaking(execution: string): Execution | undefined {
    return this.#live?.execution.id === execution ? this.#live.execution : undefined;
  }

  async relay(_program: string, request: GatewayCall): Promise<ReadableStream<Uint8Array>> {
    this.#ensureLive();
    if (this.#live) return this.#live.execution.relay(request);
    const refused = {
      type: "refused",
      call: request.call,
      n: request.from + 1,
      error: failure("cancelled", "the run is over"),
      emitted: 0,
    };
    return new Response(`${JSON.stringify(refused)}\n`).body ?? new ReadableStream();
  }

  async cancelRelay(_program: string, call: string, reason: string): Promise<void> {
    this.#live?.execution.cancelRelay(call, reason);
  }

  async childDone(_program: string, run: RunId, outcome: Outcome): Promise<void> {
    this.#ensureLive();
    this.#live?.execution.childDone(run, outcome);
  }

  async executes(): Promise<boolean> {
    return this.#log.exists && !this.#log.read().outcome;
  }

  async callee(_program: string, name: string): Promise<ResolvedFunction | null> {
    return this.#executing().callee(name);
  }

  async calleeCode(_program: string, version: string): Promise<Result<string>> {
    return this.#executing().calleeCode(version);
  }

  #executing(): Execution {
    this.#ensureLive();
    if (!this.#live) throw new Error("the run is over");
    return this.#live.execution;
  }

  async childUsage(events: readonly UsageEvent[]): Promise<boolean> {
    if (!this.#log.exists) return false;
    const now_ms = Date.now();
    const gathered = this.ctx.storage.transactionSync(() => this.#debts.gather(events, now_ms));
    if (gathered === "many") this.ctx.waitUntil(this.#payAndSleep(now_ms));
    // One that is running has an alarm, and its end, to see to it.
    else if (gathered === "few" && !this.#live) await this.#setAlarm();
    return gathered !== "full";
  }

  /** The most that ran in this object at once, of what the platform limits. */
  peaks(): { workers: number; connections: number } {
    const { workers, connections } = objectLimits(this.ctx);
    return { workers: workers.peak, connections: connections.peak };
  }

  /** For tests and tools that keep a state fixture. */
  async dump(): Promise<Record<string, unknown[]>> {
    return this.#log.exists ? this.#log.dump() : {};
  }
}

/**
 * Only of a first attempt is it known that nothing began: one before it may have come further. A called function's failure is its
 * caller's already, whose own code is at work.
 */
function provenOutcome(stored: StoredRun, outcome: Outcome): Outcome {
  if (outcome.status !== "failed" || (stored.attempts === 1 && !stored.spec.parent)) return outcome;
  return { status: "failed", error: outcome.error };
}

/** The engine measured what the guest sent; a guest that does not use our JSON may send what is longer as it is kept. */
function storable(outcome: Outcome): Outcome {
  if (outcome.status !== "done" || utf8FitsIn(JSON.stringify(outcome.output), RESULT_BYTES_MAX)) return outcome;
  return { status: "failed", error: failure("result_not_serializable", `The output is larger than ${RESULT_BYTES_MAX} bytes.`) };
}

const INPUT_TOO_LARGE = `A function's input is at most ${BODY_BYTES_MAX} bytes of JSON.`;
const CALLER_IS_OVER = "the function that called it is over";
const TOO_MANY_EVENTS = failure("too_many_steps", `A run has at most ${RUN_EVENTS_MAX} events.`);
const DENIED = failure("capability_denied", "The run is over.");
const OVER = JSON.stringify({ ok: false, error: DENIED });
const OVER_LINE = JSON.stringify({ type: "error", error: DENIED });
