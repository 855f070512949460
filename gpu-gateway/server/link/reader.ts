/**
 * One call on one link: takes frames from the call's output as far as credit and the socket allow. What it may not send yet
 * stays in the output and grows together there, so that a slow edge costs bounded memory (I8).
 */
import { failure } from "../../../schema/core/errors.ts";
import { LINK_CREDIT_FRAMES } from "../../../schema/core/wire/limits.ts";
import type { LinkFromGateway } from "../../../schema/core/wire/link.ts";
import type { KnownCall } from "../../runtime/calls.ts";
import type { OutputFrame, OutputReader } from "../../runtime/output.ts";
import { toTokenUsage } from "../openai/chunks.ts";

export interface LinkSender {
  send(frame: LinkFromGateway): void;
  /** The socket takes no more for now; readers are woken when it does. */
  readonly congested: boolean;
  /** The call's last frame went out on this link. */
  finished(reader: LinkReader): void;
}

export class LinkReader implements OutputReader {
  readonly call: KnownCall;
  readonly #sender: LinkSender;
  #cursor: number;
  #durable: number;
  #said_accepted = false;
  #said_position: number | null = null;

  constructor(sender: LinkSender, call: KnownCall, from: number) {
    this.#sender = sender;
    this.call = call;
    this.#cursor = from;
    this.#durable = from;
  }

  credit(n: number): void {
    this.#durable = Math.max(this.#durable, Math.min(n, this.#cursor));
    this.wake();
  }

  wake(): void {
    const { output, call } = this.call;
    const id = call.call_id;
    if (output.accepted && !this.#said_accepted) {
      this.#said_accepted = true;
      this.#sender.send({ type: "accepted", call: id });
    }
    const { position } = output;
    if (output.accepted && position !== null && position !== this.#said_position && !this.#sender.congested)
      this.#sender.send({ type: "queued", call: id, position });
    this.#said_position = position;
    while (this.#cursor - this.#durable < LINK_CREDIT_FRAMES && !this.#sender.congested) {
      // The oldest frames went while this reader could not take them.
      if (!output.has(this.#cursor)) return this.#gone();
      const frame = output.take(this.#cursor);
      if (frame === undefined) return;
      this.#cursor = frame.n;
      this.#sender.send(toWire(id, frame));
      if (frame.type !== "token") return this.#sender.finished(this);
    }
  }

  #gone(): void {
    const error = failure("slow_reader", "output that was not taken in time is gone");
    this.#sender.send({ type: "refused", call: this.call.call.call_id, n: this.#cursor + 1, error, emitted: this.#cursor });
    this.#sender.finished(this);
  }
}

function toWire(call: string, frame: OutputFrame): LinkFromGateway {
  if (frame.type === "token") {
    const { n, choice, delta, tokens, logprobs, finish_reason } = frame;
    const more = { ...(logprobs === undefined ? {} : { logprobs }), ...(finish_reason === null ? {} : { finish_reason }) };
    return { type: "token", call, n, choice, delta: { ...delta }, tokens, ...more };
  }
  if (frame.type === "done") {
    const { n, finish_reason, usage, legs } = frame;
    return { type: "done", call, n, finish_reason, usage: toTokenUsage(usage), legs: [...legs] };
  }
  const { n, failure: error, emitted, usage, retry_after_ms } = frame;
  const more = { ...(usage === null ? {} : { usage: toTokenUsage(usage) }), ...(retry_after_ms === null ? {} : { retry_after_ms }) };
  return { type: "refused", call, n, error, emitted, ...more };
}
