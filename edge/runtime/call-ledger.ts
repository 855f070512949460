/**
 * The model calls of a program as its root stores them: every numbered frame once, durable before it is given credit, logged or
 * read (I4). Readers — the guest's own `ai` and the relays of called functions — read stored frames first and then wait for the
 * next; any of them may come back after an eviction and begin again. The call itself is sent with `from` = the last stored frame.
 *
 * A token costs two rows: its frame, which is both the link's cursor and what a replay reads, and its event in the object's log. They
 * are not one, because a frame goes with its program and an event stays, and neither has all that the other has.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import type { GatewayCall, GatewayFrame } from "../gateway-client-call.ts";
import type { ExecutionFact, ExecutionSink, ModelLink } from "./execution.ts";

export type NumberedFrame = Extract<GatewayFrame, { n: number }>;

/** Model calls of one run or turn, called functions included: beyond it `too_many_steps`. */
export const PROGRAM_CALLS_MAX = 10_000;
const READ_BATCH = 128;

export const TOO_MANY_CALLS = failure("too_many_steps", `A run makes at most ${PROGRAM_CALLS_MAX} model calls.`);

/** The engine's model calls: at a program's root, and in a called function (relayed-calls.ts). */
export type Calls = {
  open(request: GatewayCall): void;
  frames(call: string, after: number): AsyncGenerator<NumberedFrame>;
  cancel(call: string, reason: string): void;
  close(reason: string): void;
};

export class CallLedger implements Calls {
  readonly #storage: DurableObjectStorage;
  readonly #program: string;
  readonly #link: ModelLink;
  readonly #sink: ExecutionSink;
  readonly #in_flight = new Map<string, GatewayCall>();
  readonly #readers = new Map<string, Set<() => void>>();
  #closed: Failure | undefined;

  constructor(options: { storage: DurableObjectStorage; program: string; link: ModelLink; sink: ExecutionSink }) {
    this.#storage = options.storage;
    this.#program = options.program;
    this.#link = options.link;
    this.#sink = options.sink;
  }

  /** Sends the call unless it is on its way or has ended. */
  open(request: GatewayCall): void {
    const { call } = request;
    if (this.#in_flight.has(call)) return;
    const stored = this.#stored(call);
    if (stored?.ended) return;
    if (this.#closed) return this.#refuse(request, stored?.n ?? 0, this.#closed);
    if (!stored) {
      if (this.#count() >= PROGRAM_CALLS_MAX) {
        return this.#refuse(request, 0, TOO_MANY_CALLS);
      }
      this.#write(() => {
        this.#storage.sql.exec("INSERT INTO execution_calls VALUES (?, ?, 0, 0)", this.#program, call);
        this.#sink.append([{ type: "step", path: request.context.step, ...agentOf(request), status: "started" }]);
      });
    }
    this.#in_flight.set(call, request);
    void this.#carry({ ...request, from: stored?.n ?? 0 });
  }

  async #carry(request: GatewayCall): Promise<void> {
    try {
      await this.#link.call(request, (frame) => {
        if ("n" in frame) this.#store(request, frame);
      });
    } catch {
      // The link ends a call with a frame; only our own storing can have thrown.
      this.#refuse(request, this.#stored(request.call)?.n ?? 0, failure("internal", "The model call could not be recorded."));
    } finally {
      this.#in_flight.delete(request.call);
    }
  }

  /** Stored frames beyond `after`, then live ones, to the last frame. */
  async *frames(call: string, after: number): AsyncGenerator<NumberedFrame> {
    let n = after;
    for (;;) {
      const rows = this.#storage.sql
        .exec<{ n: number; frame: string }>(
          "SELECT n, frame FROM execution_frames WHERE program = ? AND call = ? AND n > ? ORDER BY n LIMIT ?",
          this.#program,
          call,
          n,
          READ_BATCH,
        )
        .toArray();
      for (const row of rows) {
        const frame = JSON.parse(row.frame) as NumberedFrame;
        n = row.n;
        yield frame;
        if (frame.type !== "token") return;
      }
      if (rows.length > 0) continue;
      if (this.#stored(call)?.ended !== 0) return; // ended, and read to its end before
      await this.#next(call);
    }
  }

  cancel(call: string, reason: string): void {
    if (this.#in_flight.has(call)) this.#link.cancel(call, reason);
  }

  /** Cancels what is in flight and refuses what comes later. */
  close(reason: string): void {
    this.#closed ??= failure("cancelled", reason);
    for (const call of this.#in_flight.keys()) this.#link.cancel(call, reason);
  }

  #store(request: GatewayCall, frame: NumberedFrame): void {
    const stored = this.#stored(request.call);
    if (!stored || stored.ended || frame.n <= stored.n) return;
    this.#write(() => {
      const ended = frame.type === "token" ? 0 : 1;
      this.#storage.sql.exec(
        "INSERT INTO execution_frames VALUES (?, ?, ?, ?)",
        this.#program,
        request.call,
        frame.n,
        JSON.stringify(frame),
      );
      if (ended === 1)
        this.#storage.sql.exec(
          "UPDATE execution_calls SET n = ?, ended = 1 WHERE program = ? AND call = ?",
          frame.n,
          this.#program,
          request.call,
        );
      this.#sink.append(factsOf(request, frame));
    });
    this.#wake(request.call);
  }

  #refuse(request: GatewayCall, n: number, error: Failure): void {
    const { call } = request;
    this.#write(() => {
      this.#storage.sql.exec("INSERT OR IGNORE INTO execution_calls VALUES (?, ?, 0, 0)", this.#program, call);
    });
    this.#store(request, { type: "refused", call, n: n + 1, error, emitted: n });
  }

  #stored(call: string): { n: number; ended: number } | undefined {
    return this.#storage.sql
      .exec<{ n: number; ended: number }>(
        `SELECT ended, (SELECT coalesce(max(n), 0) FROM execution_frames WHERE program = ?1 AND call = ?2) AS n
         FROM execution_calls WHERE program = ?1 AND call = ?2`,
        this.#program,
        call,
      )
      .toArray()[0];
  }

  #count(): number {
    return this.#storage.sql.exec<{ c: number }>("SELECT count(*) AS c FROM execution_calls WHERE program = ?", this.#program).one().c;
  }

  #write(work: () => void): void {
    this.#storage.transactionSync(work);
  }

  async #next(call: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const readers = this.#readers.get(call) ?? new Set();
    this.#readers.set(call, readers.add(resolve));
    await promise;
  }

  #wake(call: string): void {
    const readers = this.#readers.get(call);
    this.#readers.delete(call);
    for (const resolve of readers ?? []) resolve();
  }
}

export const agentOf = (request: GatewayCall) => (request.context.agent === undefined ? {} : { agent: request.context.agent });

export function factsOf(request: GatewayCall, frame: NumberedFrame): ExecutionFact[] {
  const step = request.context.step;
  const agent = agentOf(request);
  switch (frame.type) {
    case "token": {
      const text = frame.delta["content"];
      return frame.choice === 0 && typeof text === "string" && text !== "" ? [{ type: "delta", step, ...agent, text }] : [];
    }
    case "done":
      return [
        { type: "usage", call: frame.call, ...agent, usage: frame.usage },
        { type: "step", path: step, ...agent, status: "done" },
      ];
    case "refused":
      return [
        ...(frame.usage ? [{ type: "usage" as const, call: frame.call, ...agent, usage: frame.usage }] : []),
        { type: "step", path: step, ...agent, status: "failed", error: cleanFailure(frame.error) },
      ];
  }
}

/** zod's optional fields may be present and undefined; a Failure's may not. */
export function cleanFailure(error: Extract<NumberedFrame, { type: "refused" }>["error"]): Failure {
  return failure(error.code, error.detail, error.param);
}
