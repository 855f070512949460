/**
 * What a run owes to others when it is over: its usage to Postgres, by way of its program's root, and word to its parent. Written with the outcome in one
 * transaction, paid at once or by the alarm, any number of times with the same effect: ids are derived (I6).
 */
import { deriveId } from "../../schema/core/ids.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";
import type { Env } from "../env.ts";
import { hostAt } from "../runtime/execution-host.ts";
import type { ObjectLimits } from "../runtime/object-limits.ts";
import type { StoredRun } from "./run-log.ts";
import { OUTBOX_BATCH_ROWS, UsageOutbox } from "./usage-outbox.ts";

/**
 * A called run hands its usage to its program's root, whose one connection takes what a whole fan-out used. A root that cannot be
 * reached for so long after the run's end is not waited for: then the run ships its own.
 */
const ROOT_AWAY_MS_MAX = 60_000;
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 300_000;
/** A parent that cannot be told so often is not there any more: with the longest delay this is about two days. */
const ATTEMPTS_MAX = 600;

export class RunDebts {
  readonly #sql: SqlStorage;
  readonly #env: Env;
  readonly #limits: ObjectLimits;
  readonly #usage: UsageOutbox;

  constructor(sql: SqlStorage, env: Env, limits: ObjectLimits) {
    this.#sql = sql;
    this.#env = env;
    this.#limits = limits;
    this.#usage = new UsageOutbox(sql);
  }

  static createTables(sql: SqlStorage): void {
    UsageOutbox.createTable(sql);
    sql.exec("CREATE TABLE parent_untold (one INTEGER PRIMARY KEY CHECK (one = 1), attempts INTEGER NOT NULL, due_at_ms INTEGER NOT NULL)");
  }

  /** In the transaction of `finish`. */
  incur(run: StoredRun, now_ms: number): void {
    this.#usage.add(usageOf(run, now_ms));
    this.#usage.dueNow();
    if (!run.spec.parent) return;
    this.#sql.exec("INSERT INTO parent_untold VALUES (1, 0, ?)", now_ms);
  }

  /** Pays what is due. Never rejects. */
  async pay(run: StoredRun, now_ms: number): Promise<void> {
    const usage_due = this.#usage.due();
    // The usage is on its way first: a root that hears that its last child is over has all of it, and ships it with its own.
    await Promise.all([
      usage_due !== undefined && usage_due <= now_ms ? this.#passOn(run, now_ms) : undefined,
      this.#tellParent(run, now_ms),
    ]);
  }

  async #passOn(run: StoredRun, now_ms: number): Promise<void> {
    const { root } = run.spec.identity;
    const { connections } = this.#limits;
    if (root && now_ms - (run.finished_at_ms ?? now_ms) < ROOT_AWAY_MS_MAX) {
      const host = hostAt(this.#env, root);
      if ((await this.#usage.hand((events) => connections.run(() => host.childUsage(events)), now_ms)) !== "refused") return;
    }
    await connections.run(() => this.#usage.ship(this.#env.DB, now_ms));
  }

  /** Of a called run, at its root; in a transaction. `full`: nothing was taken; `many`: they should not wait for more. */
  gather(events: readonly UsageEvent[], now_ms: number): "full" | "many" | "few" {
    if (!this.#usage.gather(events, now_ms)) return "full";
    if (this.#usage.rows < OUTBOX_BATCH_ROWS) return "few";
    this.#usage.dueNow();
    return "many";
  }

  get nextDueAtMs(): number | undefined {
    const due = [this.#usage.due(), this.#untold()?.due_at_ms].filter((ms) => ms !== undefined);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  async #tellParent(run: StoredRun, now_ms: number): Promise<void> {
    const untold = this.#untold();
    const { parent, identity } = run.spec;
    if (!untold || !parent || !run.outcome || untold.due_at_ms > now_ms) return;
    const { outcome } = run;
    try {
      await this.#limits.connections.run(() => hostAt(this.#env, parent).childDone(identity.program, run.spec.run, outcome));
      this.#sql.exec("DELETE FROM parent_untold");
    } catch {
      const delay_ms = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(untold.attempts, 16));
      this.#sql.exec("UPDATE parent_untold SET attempts = attempts + 1, due_at_ms = ?", now_ms + delay_ms);
    }
  }

  #untold(): { attempts: number; due_at_ms: number } | undefined {
    return this.#sql
      .exec<{ attempts: number; due_at_ms: number }>("SELECT attempts, due_at_ms FROM parent_untold WHERE attempts < ?", ATTEMPTS_MAX)
      .toArray()[0];
  }
}

/** A request is what came through the door; wall time is every run's own. */
function usageOf(run: StoredRun, finished_at_ms: number): UsageEvent[] {
  const { spec, created_at_ms } = run;
  const { identity } = spec;
  const nanosOf = (ms: number) => (BigInt(ms) * 1_000_000n).toString();
  const from_ns = nanosOf(created_at_ms);
  const common = {
    source: "edge" as const,
    tenant: identity.tenant,
    project: identity.project,
    function: identity.function,
    version: identity.version,
    ...(identity.run === undefined ? {} : { run: identity.run }),
    ...(identity.session === undefined ? {} : { session: identity.session }),
    program: identity.program,
    agent: identity.agent,
  };
  const wall: UsageEvent = {
    ...common,
    id: deriveId("usage", "edge", "wall", spec.run),
    kind: "edge_wall",
    from_ns,
    to_ns: nanosOf(finished_at_ms),
    quantity: nanosOf(finished_at_ms - created_at_ms),
  };
  if (spec.parent) return [wall];
  return [
    { ...common, id: deriveId("usage", "edge", "request", spec.run), kind: "edge_request", from_ns, to_ns: from_ns, quantity: "1" },
    wall,
  ];
}
