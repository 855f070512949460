/**
 * Executes a session's turns, one at a time, and goes on with one whose object died (D11).
 *
 * R1 A turn that is running in the database is being executed here, or an alarm is armed that will see to it.
 * R2 What a turn did and what the engine remembers of it (steps, the link's cursor) are written in one transaction; that is the
 *    engine's promise, which calls `append` inside its own.
 * R3 A turn ends once: the event that says so and the row's new state are one transaction.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import { asId, type ProgramId, type RunId } from "../../schema/core/ids.ts";
import type { TokenClaims } from "../../schema/core/wire/token.ts";
import type { SessionLines } from "./session-lines.ts";
import type { SessionEventBody, SessionLog } from "./session-log.ts";
import { TURN_ATTEMPTS_MAX } from "./session-limits.ts";
import type { SessionTurns, TurnEnd, TurnRow } from "./session-turns.ts";
import type { Execution, ExecutionFact, ExecutionSink, Outcome } from "../runtime/execution.ts";

export type RunnerPorts = {
  readonly session: string;
  readonly storage: DurableObjectStorage;
  readonly log: SessionLog;
  readonly lines: SessionLines;
  readonly turns: SessionTurns;
  execute(turn: TurnRow, program: ProgramId, sink: ExecutionSink): Execution;
  /** Inside the transaction in which the turn ends. Answers with the runs that it leaves behind. */
  onEnd(turn: TurnRow, end: TurnEnd, now_ms: number): readonly RunId[];
  /** Called functions whose turn is over, whichever life of the object called them. */
  stop(left_behind: readonly RunId[]): void;
  /** Something was appended, or the running turn changed. */
  onChange(): void;
};

export class SessionRunner {
  readonly #ports: RunnerPorts;
  #active: { readonly turn: string; readonly program: ProgramId; readonly execution: Execution } | undefined;

  constructor(ports: RunnerPorts) {
    this.#ports = ports;
  }

  /** The execution that an RPC of a guest, or of a called function, speaks to; undefined once it is over. */
  byExecution(id: string): Execution | undefined {
    return this.#active?.execution.id === id ? this.#active.execution : undefined;
  }

  byProgram(program: string): Execution | undefined {
    return this.#active?.program === program ? this.#active.execution : undefined;
  }

  /** Inside the transaction that stores the message. */
  begin(message: { id: string; text: string }, caller: TokenClaims, now_ms: number, timeout_ms: number): void {
    const { log, turns } = this.#ports;
    const { turn } = turns.begin(message, caller, now_ms, timeout_ms);
    log.append(
      [
        { type: "message", ...message },
        { type: "turn.started", turn, message: message.id },
      ],
      now_ms,
    );
  }

  /** Executes the running turn, if one is and it is not being executed. Resolves when it has ended. */
  async proceed(): Promise<void> {
    const turn = this.#ports.turns.running();
    if (!turn || this.#active) return;
    const now_ms = Date.now();
    const attempt = this.#ports.turns.attempt(turn.turn);
    if (turn.cancel_reason !== null) return this.#end(turn, cancelled(turn.cancel_reason));
    if (now_ms >= turn.deadline_at_ms) return this.#end(turn, { status: "failed", error: failure("function_timeout") });
    if (attempt > TURN_ATTEMPTS_MAX) {
      const detail = `the turn was interrupted ${TURN_ATTEMPTS_MAX} times`;
      return this.#end(turn, { status: "failed", error: failure("internal", detail) });
    }
    const program = asId<"program">(`${this.#ports.session}/${turn.turn}`);
    const sink: ExecutionSink = { append: (facts) => this.#append(turn, facts) };
    const execution = this.#ports.execute(turn, program, sink);
    this.#active = { turn: turn.turn, program, execution };
    let outcome: Outcome;
    try {
      outcome = await execution.run(turn.input);
    } catch (error) {
      outcome = { status: "failed", error: failure("internal", error instanceof Error ? error.message : String(error)) };
    } finally {
      this.#active = undefined;
    }
    this.#end(turn, outcome);
  }

  /** Stops the running turn and the GPU work of its calls. False: no such turn is running. */
  cancel(turn: string | undefined, reason: string): boolean {
    const running = this.#ports.turns.running();
    if (!running || (turn !== undefined && turn !== running.turn)) return false;
    this.#ports.turns.requestCancel(running.turn, reason);
    this.#active?.execution.cancel(reason);
    return true;
  }

  #append(turn: TurnRow, facts: readonly ExecutionFact[]): void {
    const { log, lines, turns } = this.#ports;
    lines.append(turn.turn, facts);
    const events = joinDeltas(facts).flatMap((fact) => toEvent(turn.turn, fact));
    if (events.length === 0) return;
    if (events.some((event) => event.type === "delta")) turns.markPartial(turn.turn);
    log.append(events, Date.now());
    this.#ports.onChange();
  }

  #end(turn: TurnRow, outcome: Outcome): void {
    const { storage, log, turns } = this.#ports;
    const now_ms = Date.now();
    const left_behind = storage.transactionSync(() => {
      const partial = turns.isPartial(turn.turn);
      const output = outcome.status === "done" ? (outcome.output ?? null) : undefined;
      if (!turns.end(turn.turn, outcome.status, output)) return [];
      log.append(
        [outcome.status === "done" ? { type: "turn.done", turn: turn.turn, output } : ended(turn.turn, outcome.error, partial)],
        now_ms,
      );
      return this.#ports.onEnd(turn, outcome.status, now_ms);
    });
    this.#ports.stop(left_behind);
    this.#ports.onChange();
  }
}

const cancelled = (reason: string): Outcome => ({ status: "cancelled", error: failure("cancelled", reason) });

const ended = (turn: string, error: Failure, partial: boolean): SessionEventBody => ({ type: "error", turn, error: plain(error), partial });

/** Deltas of one step that follow each other in one batch become one event: fewer rows, the same text. */
function joinDeltas(facts: readonly ExecutionFact[]): ExecutionFact[] {
  const joined: ExecutionFact[] = [];
  for (const fact of facts) {
    const last = joined.at(-1);
    if (fact.type === "delta" && last?.type === "delta" && last.step === fact.step && last.agent === fact.agent) {
      joined[joined.length - 1] = { ...last, text: last.text + fact.text };
    } else {
      joined.push(fact);
    }
  }
  return joined;
}

function toEvent(turn: string, fact: ExecutionFact): SessionEventBody[] {
  const agent = "agent" in fact && fact.agent !== undefined ? { agent: fact.agent } : {};
  switch (fact.type) {
    case "step":
      return [{ type: "step", turn, path: fact.path, ...agent, status: fact.status, ...(fact.error ? { error: plain(fact.error) } : {}) }];
    case "delta":
      return fact.text === "" ? [] : [{ type: "delta", turn, step: fact.step, ...agent, text: fact.text }];
    case "event":
      return [{ type: "event", turn, name: fact.name, data: fact.data }];
    case "usage":
      return [{ type: "usage", turn, call: fact.call, ...agent, usage: fact.usage }];
    case "log":
      // A line is for the function's author, not for its users: session-lines.ts.
      break;
  }
  return [];
}

const plain = (error: Failure): Failure => failure(error.code, error.detail, error.param);
