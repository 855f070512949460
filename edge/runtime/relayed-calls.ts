/**
 * The model calls of a called function. Its program's root stores every frame of them before it relays it, for as long as the program
 * goes on (I4), so here only a call's beginning and end are stored, with what the function's own log says of them. A function that is
 * replayed asks the root again from the first frame on.
 */
import { failure, type Failure } from "../../schema/core/errors.ts";
import type { GatewayCall, GatewayFrame } from "../gateway-client-call.ts";
import { agentOf, factsOf, PROGRAM_CALLS_MAX, TOO_MANY_CALLS, type Calls, type NumberedFrame } from "./call-ledger.ts";
import type { ExecutionSink, ModelLink } from "./execution.ts";
import { HandOver } from "./hand-over.ts";

type LastFrame = Exclude<NumberedFrame, { type: "token" }>;

export class RelayedCalls implements Calls {
  readonly #storage: DurableObjectStorage;
  readonly #program: string;
  readonly #link: ModelLink;
  readonly #sink: ExecutionSink;
  /** A call has one reader: its step. What the reader does not take stays with the root. */
  readonly #in_flight = new Map<string, HandOver<NumberedFrame>>();
  #closed: Failure | undefined;

  constructor(options: { storage: DurableObjectStorage; program: string; link: ModelLink; sink: ExecutionSink }) {
    this.#storage = options.storage;
    this.#program = options.program;
    this.#link = options.link;
    this.#sink = options.sink;
  }

  open(request: GatewayCall): void {
    if (this.#in_flight.has(request.call)) return;
    const pieces = new HandOver<NumberedFrame>();
    this.#in_flight.set(request.call, pieces);
    void this.#carry(request, pieces);
  }

  async #carry(request: GatewayCall, pieces: HandOver<NumberedFrame>): Promise<void> {
    let n = 0;
    const hear = async (frame: GatewayFrame) => {
      if (!("n" in frame)) return;
      n = frame.n;
      if (frame.type !== "token") this.#end(request, frame);
      await pieces.give(frame);
    };
    const refuse = (error: Failure) => hear({ type: "refused", call: request.call, n: n + 1, error, emitted: n });
    try {
      const refused = this.#begin(request);
      if (refused) await refuse(refused);
      else await this.#link.call({ ...request, from: 0 }, hear);
    } catch {
      // The link ends a call with a frame; only our own storing can have thrown.
      await refuse(failure("internal", "The model call could not be recorded.")).catch(() => undefined);
    } finally {
      this.#in_flight.delete(request.call);
      pieces.end();
    }
  }

  async *frames(call: string): AsyncGenerator<NumberedFrame> {
    const pieces = this.#in_flight.get(call);
    if (!pieces) return;
    try {
      for await (const frame of pieces.take()) {
        yield frame;
        if (frame.type !== "token") return;
      }
    } finally {
      pieces.leave();
    }
  }

  cancel(call: string, reason: string): void {
    if (this.#in_flight.has(call)) this.#link.cancel(call, reason);
  }

  close(reason: string): void {
    this.#closed ??= failure("cancelled", reason);
    for (const [call, pieces] of this.#in_flight) {
      this.#link.cancel(call, reason);
      pieces.leave();
    }
  }

  #begin(request: GatewayCall): Failure | undefined {
    if (this.#closed) return this.#closed;
    if (this.#ended(request.call) !== undefined) return undefined;
    const { c } = this.#storage.sql.exec<{ c: number }>("SELECT count(*) AS c FROM execution_calls WHERE program = ?", this.#program).one();
    if (c >= PROGRAM_CALLS_MAX) return TOO_MANY_CALLS;
    this.#storage.transactionSync(() => {
      this.#storage.sql.exec("INSERT INTO execution_calls VALUES (?, ?, 0, 0)", this.#program, request.call);
      this.#sink.append([{ type: "step", path: request.context.step, ...agentOf(request), status: "started" }]);
    });
    return undefined;
  }

  /** Told once, in whatever life. */
  #end(request: GatewayCall, frame: LastFrame): void {
    if (this.#ended(request.call) === 1) return;
    this.#storage.transactionSync(() => {
      this.#storage.sql.exec(
        "INSERT INTO execution_calls VALUES (?1, ?2, ?3, 1) ON CONFLICT (program, call) DO UPDATE SET n = ?3, ended = 1",
        this.#program,
        request.call,
        frame.n,
      );
      this.#sink.append(factsOf(request, frame));
    });
  }

  #ended(call: string): number | undefined {
    return this.#storage.sql
      .exec<{ ended: number }>("SELECT ended FROM execution_calls WHERE program = ? AND call = ?", this.#program, call)
      .toArray()[0]?.ended;
  }
}
