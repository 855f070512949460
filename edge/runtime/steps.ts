/**
 * Memoised steps (D11): a step that ended answers from its row; one that had begun when the object died is performed again; one
 * that now asks for something else than then is `nondeterministic_step`.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import { RESULT_BYTES_MAX } from "../../schema/core/wire/guest.ts";
import { STEPS_MAX } from "../../schema/core/wire/limits.ts";
import type { ExecutionFact, ExecutionSink } from "./execution.ts";
import { bad, type Result } from "./result.ts";
import { utf8FitsIn } from "./utf8.ts";

type Row = { request: string; status: "started" | "done" | "failed"; value: string | null; error: string | null };
/** What the object's log shall say of it; a model call speaks for itself (call-ledger.ts), memory is silent. */
export type StepVoice = { readonly path: string; readonly agent?: string };

export class Steps {
  readonly #storage: DurableObjectStorage;
  readonly #program: string;
  readonly #sink: ExecutionSink;
  readonly #pending = new Map<string, Promise<Result<unknown>>>();

  constructor(options: { storage: DurableObjectStorage; program: string; sink: ExecutionSink }) {
    this.#storage = options.storage;
    this.#program = options.program;
    this.#sink = options.sink;
  }

  async memo<T>(path: string, request: string, perform: () => Promise<Result<T>>, voice?: StepVoice): Promise<Result<T>> {
    const begun = this.begin(path, request, voice);
    if (!begun.ok) return begun;
    if (begun.value.ended) return begun.value.ended as Result<T>;
    const pending = this.#pending.get(path) as Promise<Result<T>> | undefined;
    if (pending) return pending;
    const performed = this.#perform(path, perform, voice);
    this.#pending.set(path, performed);
    try {
      return await performed;
    } finally {
      this.#pending.delete(path);
    }
  }

  async #perform<T>(path: string, perform: () => Promise<Result<T>>, voice?: StepVoice): Promise<Result<T>> {
    return this.end(path, await perform(), voice);
  }

  /** `ended`: what it came to, in this attempt or an earlier one. */
  begin(path: string, request: string, voice?: StepVoice): Result<{ ended?: Result<unknown> }> {
    const row = this.#row(path);
    if (row) {
      if (row.request !== request) return bad("nondeterministic_step", `Step "${path}" asked for something else the first time.`);
      if (row.status === "done") return { ok: true, value: { ended: { ok: true, value: JSON.parse(row.value ?? "null") as unknown } } };
      if (row.status === "failed") return { ok: true, value: { ended: { ok: false, error: JSON.parse(row.error ?? "null") as Failure } } };
      return { ok: true, value: {} };
    }
    const count = this.#storage.sql
      .exec<{ c: number }>("SELECT count(*) AS c FROM execution_steps WHERE program = ?", this.#program)
      .one().c;
    if (count >= STEPS_MAX) return bad("too_many_steps", `A run has at most ${STEPS_MAX} steps.`);
    this.#storage.transactionSync(() => {
      this.#storage.sql.exec("INSERT INTO execution_steps VALUES (?, ?, ?, 'started', NULL, NULL)", this.#program, path, request);
      if (voice) this.#sink.append([{ type: "step", ...voice, status: "started" }]);
    });
    return { ok: true, value: {} };
  }

  /** Remembers what the step came to; it counts once. */
  end<T>(path: string, result: Result<T>, voice?: StepVoice): Result<T> {
    let kept: Result<T> = result;
    let text = result.ok ? JSON.stringify(result.value ?? null) : "";
    if (!utf8FitsIn(text, RESULT_BYTES_MAX)) {
      kept = { ok: false, error: failure("result_not_serializable", `Step "${path}" came to more than ${RESULT_BYTES_MAX} bytes.`) };
      text = "";
    }
    if (this.#row(path)?.status !== "started") return kept;
    const facts: ExecutionFact[] = !voice
      ? []
      : kept.ok
        ? [{ type: "step", ...voice, status: "done" }]
        : [{ type: "step", ...voice, status: "failed", error: kept.error }];
    this.#storage.transactionSync(() => {
      this.#storage.sql.exec(
        "UPDATE execution_steps SET status = ?, value = ?, error = ? WHERE program = ? AND path = ?",
        kept.ok ? "done" : "failed",
        kept.ok ? text : null,
        kept.ok ? null : JSON.stringify(kept.error),
        this.#program,
        path,
      );
      if (facts.length > 0) this.#sink.append(facts);
    });
    return kept;
  }

  #row(path: string): Row | undefined {
    return this.#storage.sql
      .exec<Row>("SELECT request, status, value, error FROM execution_steps WHERE program = ? AND path = ?", this.#program, path)
      .toArray()[0];
  }
}
