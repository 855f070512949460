/**
 * One leg on one engine. States: asked → accepted (headers) → ended. Every way out goes through `#end`, which fires once: so the
 * sink hears exactly one of finished, failed, cancelled, and nothing after it.
 *
 * A decode leg never begins, nor is accepted, after its hand-over expires: past the lease the engine would answer from blocks
 * that hold other prompts by then, and nobody would see it (I3).
 */
import type { Handover, LegRequest, LegSink, RunningLeg } from "../../ports/engine.ts";
import type { LegFailure, LegUsage } from "../../policy/vocabulary.ts";
import type { HttpClient } from "../http.ts";
import { arrivedAfterMs, monotoneMs } from "../monotone.ts";
import { SseParser } from "../sse.ts";
import { isRecord, readChunk, readUsage } from "./answer.ts";
import { prefillBody, streamedBody } from "./bodies.ts";
import { engineFailed, statusFailure } from "./failure.ts";
import { checkHandover } from "./handover.ts";

export const ANSWER_BYTES_MAX = 32 * 1_048_576; // of a prefill answer: a protocol failure
export const ERROR_BYTES_MAX = 65_536; // of a refusal; what is longer is a refusal without words, and the rest is not read
const DONE_LINGER_MS = 1_000; // after [DONE] the response must end within it, else its connection is closed

export type LegSettings = {
  readonly headers: Readonly<Record<string, string>>;
  readonly kv_lease_ms: number;
  readonly handover_margin_ms: number;
  /** vLLM builds the answer's id from X-Request-Id; an answer with another id is another request's. */
  readonly check_answer_id: boolean;
};

type Ending = (sink: LegSink) => void;

export class VllmLeg implements RunningLeg {
  readonly #request: LegRequest;
  readonly #sink: LegSink;
  readonly #settings: LegSettings;
  readonly #handover: Handover | null;
  readonly #finish_reasons = new Map<number, string>();
  #abort: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #status = 0;
  #ended = false;
  #complete = false;
  #sse: SseParser;
  #body: Buffer[] = [];
  #body_bytes = 0;
  #usage: LegUsage | null = null;
  /** What the first chunks say of the prompt. Of the completion they know their own choice alone. */
  #prompt: Pick<LegUsage, "prompt_tokens" | "cached_tokens"> | null = null;
  #tokens = 0;

  constructor(request: LegRequest, sink: LegSink, settings: LegSettings) {
    this.#request = request;
    this.#sink = sink;
    this.#settings = settings;
    this.#handover = request.role === "decode" ? request.handover : null;
    this.#sse = new SseParser((event) => (event.type === "data" ? this.#event(event.data) : this.#fault(event.detail)));
  }

  start(http: HttpClient): void {
    const left_ms = this.#handover === null ? Infinity : this.#handover.expires_at_ms - monotoneMs();
    if (left_ms <= 0) return this.#endSoon(engineFailed("kv_lost", "the KV lease is over"));
    const { request_id, kind, role, accept_timeout_ms } = this.#request;
    const wait_ms = Math.min(accept_timeout_ms, left_ms);
    this.#timer = setTimeout(() => {
      const lease = left_ms < accept_timeout_ms;
      this.#failed(
        lease
          ? engineFailed("kv_lost", "not accepted before the KV lease ended")
          : engineFailed("timeout", `no answer within ${accept_timeout_ms} ms`),
      );
    }, wait_ms);
    const path = kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
    const body = role === "prefill" ? prefillBody(this.#request) : streamedBody(this.#request, this.#handover);
    const headers = { ...this.#settings.headers, "content-type": "application/json", "x-request-id": request_id };
    this.#abort = http.start(
      { method: "POST", path, headers, body },
      {
        head: (status) => this.#head(status),
        data: (chunk) => this.#data(chunk),
        end: () => this.#responseEnded(),
        error: (kind_of, detail) => this.#connectionLost(kind_of, detail),
      },
    );
  }

  cancel(): void {
    if (this.#ended) return;
    this.#stop();
    // Not inside the caller's call: it may not expect its sink to be called back.
    queueMicrotask(() => this.#sink.cancelled());
  }

  #head(status: number): void {
    clearTimeout(this.#timer);
    this.#status = status;
    if (status !== 200 || this.#ended) return;
    // A stalled event loop hears its timer late: so the clock is asked, too.
    const late = this.#handover !== null && monotoneMs() >= this.#handover.expires_at_ms;
    if (late) this.#failed(engineFailed("kv_lost", "not accepted before the KV lease ended"));
    else this.#sink.accepted();
  }

  #data(chunk: Buffer): void {
    if (this.#complete) return this.#abort(); // tokens after [DONE]: such a connection is not used again
    if (this.#ended) return;
    if (this.#status === 200 && this.#request.role !== "prefill") return this.#sse.push(chunk);
    this.#body_bytes += chunk.length;
    if (this.#status !== 200 && this.#body_bytes > ERROR_BYTES_MAX) return this.#refused("");
    if (this.#body_bytes > ANSWER_BYTES_MAX) return this.#fault("the answer is too long");
    this.#body.push(chunk);
  }

  #responseEnded(): void {
    if (this.#complete) clearTimeout(this.#timer);
    if (this.#ended) return;
    const text = () => Buffer.concat(this.#body).toString();
    if (this.#status !== 200) return this.#refused(text());
    if (this.#request.role === "prefill") return this.#prefilled(text());
    // No [DONE]: whole only if every choice had said its finish reason.
    if (this.#finish_reasons.size > 0 && this.#finish_reasons.size >= choicesOf(this.#request)) return this.#finished(null);
    this.#failed(engineFailed("stream_cut", "the stream ended early"));
  }

  #connectionLost(kind: "connect" | "cut", detail: string): void {
    if (this.#complete) clearTimeout(this.#timer);
    this.#failed(engineFailed(kind === "connect" ? "connect" : "stream_cut", detail));
  }

  #event(data: string): void {
    if (this.#ended) return;
    if (data === "[DONE]") {
      if (this.#finish_reasons.size === 0) return this.#failed(engineFailed("protocol", "the stream ended without a finish reason"));
      this.#complete = true;
      this.#finished(null);
      this.#timer = setTimeout(() => this.#abort(), DONE_LINGER_MS).unref();
      return;
    }
    const chunk = readChunk(data);
    if (chunk.type === "fault") return this.#fault(chunk.detail);
    if (chunk.type === "error") return this.#failed(statusFailure(chunk.status, "", this.#handover !== null && this.#tokens === 0));
    if (!this.#answersUs(chunk.id)) return this.#fault("the answer belongs to another request");
    this.#noteUsage(chunk.usage, chunk.deltas.length === 0);
    for (const delta of chunk.deltas) {
      if (delta.finish_reason === "abort" || delta.finish_reason === "error") {
        const pulls = this.#handover !== null && this.#tokens === 0;
        return this.#failed(engineFailed(pulls ? "kv_lost" : "status", "the engine gave the request up"));
      }
      this.#tokens += delta.tokens;
      if (delta.finish_reason !== null) this.#finish_reasons.set(delta.choice, delta.finish_reason);
      this.#sink.delta(delta);
      if (this.#ended) return; // the sink may cancel
    }
  }

  /** With continuous usage each chunk has a block; only the last, which has no choice, counts the whole answer. */
  #noteUsage(usage: LegUsage | null, of_all_choices: boolean): void {
    if (usage === null) return;
    if (of_all_choices || this.#request.role !== "whole") this.#usage = usage;
    else if (this.#prompt === null) {
      const { prompt_tokens, cached_tokens } = usage;
      this.#prompt = { prompt_tokens, cached_tokens };
      this.#sink.prompt(this.#prompt);
    }
  }

  #prefilled(text: string): void {
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      return this.#fault("the prefill answer is not JSON");
    }
    if (!isRecord(answer)) return this.#fault("the prefill answer is no object");
    if (!this.#answersUs(typeof answer["id"] === "string" ? answer["id"] : "")) return this.#fault("the answer belongs to another request");
    const read = readUsage(answer["usage"]);
    // Its one token is thrown away: completion tokens are decode's alone (D5).
    const usage: LegUsage = { prompt_tokens: read?.prompt_tokens ?? 0, cached_tokens: read?.cached_tokens ?? 0, completion_tokens: 0 };
    this.#usage = read === null ? null : usage;
    const expires_at_ms = arrivedAfterMs() + this.#settings.kv_lease_ms - this.#settings.handover_margin_ms;
    const check = checkHandover(answer["kv_transfer_params"], usage, expires_at_ms);
    if (check.type === "unusable") return this.#failed(engineFailed("kv_lost", `prefill returned unusable parameters: ${check.detail}`));
    this.#finish_reasons.set(0, "length");
    this.#finished(check.handover);
  }

  #finished(handover: Handover | null): void {
    const prompt = this.#handover?.prefill_usage ?? this.#usage ?? this.#prompt;
    const counted = this.#usage === null;
    const usage: LegUsage = {
      prompt_tokens: prompt?.prompt_tokens ?? 0,
      cached_tokens: prompt?.cached_tokens ?? 0,
      completion_tokens: this.#usage?.completion_tokens ?? this.#tokens,
    };
    const finish_reason = this.#finish_reasons.get(0) ?? "stop";
    this.#end((sink) => sink.finished({ usage, finish_reason, handover, ...(counted ? { usage_counted: true } : {}) }));
  }

  #answersUs(id: string): boolean {
    if (!this.#settings.check_answer_id) return true;
    const own = id.slice(id.indexOf("-") + 1); // chatcmpl-<ours>, cmpl-<ours>, in older versions cmpl-<ours>-0
    return own === this.#request.request_id || own === `${this.#request.request_id}-0`;
  }

  #refused(body: string): void {
    this.#failed(statusFailure(this.#status, body, this.#handover !== null));
  }

  #fault(detail: string): void {
    this.#failed(engineFailed("protocol", detail));
  }

  #failed(error: LegFailure): void {
    if (this.#ended) return;
    this.#stop();
    this.#sink.failed(error);
  }

  #endSoon(error: LegFailure): void {
    queueMicrotask(() => this.#failed(error));
  }

  #end(ending: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    ending(this.#sink);
  }

  /** Ends without a whole answer: its connection must not serve another. */
  #stop(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#abort();
  }
}

function choicesOf(request: LegRequest): number {
  return request.body.n ?? 1;
}
