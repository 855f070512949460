/**
 * Two readers of a call's output: one that streams it as server-sent events, one that answers when it is over.
 *
 * The status stays open until the first token: an error before it is a status, never 200. A stream that has waited
 * HEADERS_HELD_MS answers 200 and sends comments, so that no proxy gives up on a queued call; an error is then an event.
 * A client that goes away cancels the call, unless somebody else reads it.
 */
import type { Failure } from "../../../schema/core/errors.ts";
import { toOpenAIError } from "../../../schema/core/errors.ts";
import type { KnownCall } from "../../runtime/calls.ts";
import type { EndFrame, OutputReader } from "../../runtime/output.ts";
import { sendFailure, sendJson, type Exchange } from "../answer.ts";
import { HEADERS_HELD_MS, HEARTBEAT_MS, STALLED_READER_MS } from "../limits.ts";
import { BodyCollector, ChunkWriter, nameOf } from "./chunks.ts";

type Refused = Extract<EndFrame, { type: "refused" }>;

/** `left`: the client went away before the end. */
export type OnLeft = (call: KnownCall) => void;

const headersOf = (call: KnownCall): Record<string, string> => ({ "x-millrace-call-id": call.call.call_id });

function refuse(exchange: Exchange, call: KnownCall, end: Refused): void {
  sendFailure(exchange, end.failure, { retry_after_ms: end.retry_after_ms, headers: headersOf(call) });
}

export function answerWhenDone(exchange: Exchange, call: KnownCall, on_left: OnLeft): void {
  const { output } = call;
  const collector = new BodyCollector();
  let cursor = 0;
  const reader: OutputReader = {
    wake() {
      for (let frame = output.take(cursor); frame !== undefined; frame = output.take(cursor)) {
        cursor = frame.n;
        if (frame.type === "token") {
          collector.token(frame);
          continue;
        }
        output.detach(reader);
        if (frame.type === "refused") refuse(exchange, call, frame);
        else sendJson(exchange, 200, collector.body(call.kind, nameOf(call), frame), headersOf(call));
        return;
      }
    },
  };
  exchange.response.once("close", () => {
    output.detach(reader);
    if (!exchange.response.writableFinished) on_left(call);
  });
  output.attach(reader);
  reader.wake();
}

export function streamAnswer(exchange: Exchange, call: KnownCall, include_usage: boolean, on_left: OnLeft): void {
  const stream = new EventStream(exchange, call, new ChunkWriter(call.kind, nameOf(call), include_usage), on_left);
  call.output.attach(stream);
  stream.wake();
}

class EventStream implements OutputReader {
  readonly #exchange: Exchange;
  readonly #call: KnownCall;
  readonly #chunks: ChunkWriter;
  #cursor = 0;
  /** Taken in this turn of the loop: engines' chunks come several at a time, and go out in one write. */
  #unsent = "";
  #blocked = false;
  #over = false;
  #held: NodeJS.Timeout | null;
  #heartbeat: NodeJS.Timeout | null = null;

  constructor(exchange: Exchange, call: KnownCall, chunks: ChunkWriter, on_left: OnLeft) {
    this.#exchange = exchange;
    this.#call = call;
    this.#chunks = chunks;
    this.#held = setTimeout(() => this.#stopHolding(), HEADERS_HELD_MS);
    exchange.response.once("close", () => {
      const left = !this.#over;
      this.#finish();
      if (left) on_left(call);
    });
  }

  wake(): void {
    if (this.#blocked || this.#over) return;
    const scheduled = this.#unsent !== "";
    for (let frame = this.#call.output.take(this.#cursor); frame !== undefined; frame = this.#call.output.take(this.#cursor)) {
      this.#cursor = frame.n;
      if (frame.type === "token") this.#unsent += this.#chunks.token(frame);
      else return this.#end(frame);
    }
    if (!scheduled && this.#unsent !== "") queueMicrotask(() => this.#write());
  }

  #end(frame: EndFrame): void {
    const { response } = this.#exchange;
    const text = this.#unsent;
    this.#finish();
    if (frame.type === "refused" && text === "" && !response.headersSent) return refuse(this.#exchange, this.#call, frame);
    this.#begin();
    response.end(text + (frame.type === "done" ? this.#chunks.end(frame) : errorEvent(frame.failure)));
  }

  #write(): void {
    const { response } = this.#exchange;
    const text = this.#unsent;
    if (this.#over || text === "") return;
    this.#unsent = "";
    this.#begin();
    if (response.write(text)) return;
    // The frames that come now stay in the output and grow together there (I8).
    this.#blocked = true;
    const stalled = setTimeout(() => response.destroy(), STALLED_READER_MS);
    response.once("close", () => clearTimeout(stalled));
    response.once("drain", () => {
      clearTimeout(stalled);
      this.#blocked = false;
      this.wake();
    });
  }

  #begin(): void {
    this.#quiet();
    const { response, request_id } = this.#exchange;
    if (response.headersSent) return;
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
      "x-request-id": request_id,
      ...headersOf(this.#call),
    });
  }

  /** Not before the journal has the call: a 200 is an acknowledgement (D4). */
  #stopHolding(): void {
    if (this.#over) return;
    if (!this.#call.output.accepted) {
      this.#held = setTimeout(() => this.#stopHolding(), HEADERS_HELD_MS);
      return;
    }
    this.#begin();
    this.#beat();
  }

  #beat(): void {
    const { position } = this.#call.output;
    this.#exchange.response.write(position === null ? ": working\n\n" : `: queued ${position}\n\n`);
    this.#heartbeat = setTimeout(() => this.#beat(), HEARTBEAT_MS);
  }

  #quiet(): void {
    if (this.#held !== null) clearTimeout(this.#held);
    if (this.#heartbeat !== null) clearTimeout(this.#heartbeat);
    this.#held = null;
    this.#heartbeat = null;
  }

  #finish(): void {
    this.#over = true;
    this.#quiet();
    this.#call.output.detach(this);
  }
}

/** No `[DONE]` after it: a cut stream must not look like a whole one. */
const errorEvent = (failure: Failure): string => `data: ${JSON.stringify(toOpenAIError(failure))}\n\n`;
