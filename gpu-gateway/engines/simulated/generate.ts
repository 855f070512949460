/** Serves one generation request: submits its choices to the instance and writes their tokens as they come, or all at once. */
import type { ServerResponse } from "node:http";
import type { Piece } from "./answer.ts";
import type { Fault } from "./faults.ts";
import type { Emitted, Instance } from "./instance.ts";
import type { Prepared } from "./prepare.ts";
import { FaultyBody } from "./faulty-body.ts";
import { answerBody, chatLogprobs, chunk, completionLogprobs, continuousUsage, errorBody, event, roleChunk, usageChunk } from "./wire.ts";
import type { Head, Usage } from "./wire.ts";

const ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause.";

export type Generation = {
  readonly instance: Instance;
  readonly prepared: Prepared;
  readonly response: ServerResponse;
  /** The public id: `chatcmpl-<X-Request-Id>`. */
  readonly head: Head;
  /** The engine's own, unique even when the public id is not. */
  readonly engine_request_id: string;
  readonly kv_port: number;
  readonly fault: Fault | null;
};

export function generate(generation: Generation): void {
  const { instance, prepared, response, fault } = generation;
  const ids = prepared.answers.map((_, index) => (prepared.answers.length === 1 ? "" : `${index}_`) + generation.engine_request_id);
  response.on("close", () => {
    for (const id of ids) instance.abort(id);
  });
  if (fault?.fault === "hang" && fault.after_tokens === undefined) return;
  if (fault?.fault === "status") return refuse(response, fault.status, "Injected failure");
  if (prepared.handover.type === "hangs") return void response.on("close", () => instance.die());
  if (prepared.handover.type === "fatal") {
    instance.die();
    return refuse(response, 500, ENGINE_DEAD);
  }

  const output = prepared.stream ? new Streamed(generation) : new Collected(generation, ids);
  const remote = prepared.handover.type === "pull" ? prepared.handover.remote : null;
  for (const [choice, answer] of prepared.answers.entries()) {
    const id = ids[choice] ?? generation.engine_request_id;
    const request = {
      id,
      prompt_tokens: prepared.prompt.tokens,
      block_hashes: prepared.prompt.block_hashes,
      output_tokens: answer.pieces.length,
      priority: prepared.priority,
      remote: remote !== null && choice === 0,
      // Without a finish by length vLLM returns no parameters and keeps no blocks.
      hold: prepared.handover.type === "prefill" && answer.finish_reason === "length",
    };
    instance.submit(request, request.remote ? remote : null, {
      token: (token) => output.token(choice, token),
      failed: (reason) => output.failed(reason),
    });
  }
}

export function refuse(response: ServerResponse, status: number, message: string, param: string | null = null): void {
  const body = errorBody(status, message, param);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
}

type Reason = "kv_lost" | "aborted" | "engine_dead";
const reasonMessage = (reason: Reason) => (reason === "engine_dead" ? ENGINE_DEAD : "Internal server error");

class Tally {
  completion = 0;
  #left: number;
  #cached = 0;
  readonly #prepared: Prepared;

  constructor(prepared: Prepared) {
    this.#prepared = prepared;
    this.#left = prepared.answers.length;
  }

  /** True when this was the last token of the last choice. */
  count(token: Emitted): boolean {
    this.completion++;
    this.#cached = Math.max(this.#cached, token.cached);
    if (token.last) this.#left--;
    return this.#left === 0;
  }

  /** On a decode leg the engine reports what prefill said it had found, believing it. */
  usage(params_cached: number | null): Usage {
    return { prompt: this.#prepared.prompt.tokens, completion: this.completion, cached: params_cached ?? this.#cached };
  }
}

/** Server-sent events. Headers go out at once: that is the acceptance of a decode leg. */
class Streamed {
  readonly #generation: Generation;
  readonly #body: FaultyBody;
  readonly #tally: Tally;
  readonly #roles = new Set<number>();

  constructor(generation: Generation) {
    this.#generation = generation;
    this.#tally = new Tally(generation.prepared);
    this.#body = new FaultyBody(generation.response, generation.fault);
    generation.response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    generation.response.flushHeaders();
  }

  token(choice: number, token: Emitted): void {
    const { prepared, head } = this.#generation;
    const answer = prepared.answers[choice];
    const piece = answer?.pieces[token.index];
    if (answer === undefined || piece === undefined) return;
    if (this.#body.blocks(this.#tally.completion)) return;
    const last = this.#tally.count(token);
    const finish = token.last ? { finish_reason: answer.finish_reason } : null;
    const shown = choiceText(prepared, piece, token.index);
    const extra = this.#continuous(token.index + 1);
    let text = this.#role(choice) + chunk(head, choice, shown, finish, logprobsOf(prepared, piece), extra);
    if (last && prepared.include_usage && !this.#body.withoutUsage()) text += this.#body.usage(usageChunk(head, this.#usage()));
    this.#body.write(text);
    if (last)
      this.#body.end(event({ id: head.id, object: "chat.completion.chunk", choices: [{ index: 0, delta: { content: "afterwards" } }] }));
  }

  failed(reason: Reason): void {
    const { message, type, param, code } = { message: reasonMessage(reason), type: "InternalServerError", param: null, code: 500 };
    this.#body.write(this.#role(0) + event({ error: { message, type, param, code } }));
    this.#body.end("");
  }

  #role(choice: number): string {
    if (this.#generation.head.kind !== "chat" || this.#roles.has(choice)) return "";
    this.#roles.add(choice);
    return roleChunk(this.#generation.head, choice, this.#continuous(0));
  }

  #continuous(completion: number): object {
    const { continuous_usage, prompt } = this.#generation.prepared;
    return continuous_usage ? continuousUsage(prompt.tokens, completion) : {};
  }

  #usage(): Usage {
    return this.#tally.usage(cachedByPrefill(this.#generation.prepared));
  }
}

/** One JSON answer; on a prefill leg with the hand-over parameters, whose lease begins as it is written. */
class Collected {
  readonly #generation: Generation;
  readonly #ids: readonly string[];
  readonly #tally: Tally;

  constructor(generation: Generation, ids: readonly string[]) {
    this.#generation = generation;
    this.#ids = ids;
    this.#tally = new Tally(generation.prepared);
  }

  token(_choice: number, token: Emitted): void {
    if (!this.#tally.count(token)) return;
    const { prepared, head, response, fault } = this.#generation;
    const usage = this.#tally.usage(cachedByPrefill(prepared));
    const body = answerBody(head, prepared.answers, usage, this.#params(usage.cached), prepared.logprobs, prepared.echo);
    const shown = fault?.fault === "garbage" || fault?.fault === "bad_json" ? body.slice(0, -20) : body;
    if (fault?.fault === "cut") return void response.socket?.destroy();
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(shown) });
    new FaultyBody(response, fault).finish(shown);
  }

  failed(reason: Reason): void {
    if (this.#generation.response.headersSent) return;
    refuse(this.#generation.response, 500, reasonMessage(reason));
  }

  #params(cached: number): Record<string, unknown> | null {
    const { prepared, instance, fault, kv_port } = this.#generation;
    if (prepared.handover.type !== "prefill") return null;
    const id = this.#ids.at(-1) ?? "";
    for (const other of this.#ids.slice(0, -1)) instance.release(other); // n > 1: the answer names one request only
    const blocks = instance.lease(id);
    if (blocks.length === 0 || fault?.fault === "no_params") return null;
    return {
      do_remote_prefill: true,
      do_remote_decode: false,
      remote_block_ids: [blocks],
      remote_engine_id: instance.options.engine_id,
      remote_request_id: id,
      remote_host: instance.options.host,
      remote_port: kv_port,
      tp_size: instance.options.profile.tp,
      dcp_size: 1,
      pp_size: instance.options.profile.pp,
      remote_num_tokens: prepared.prompt.tokens + this.#tally.completion - 1,
      remote_blocks_expiry_time: null,
      transfer_mode: "pull",
      remote_prefill_cached_tokens: cached,
      ...(fault?.fault === "params" ? fault.params : {}),
    };
  }
}

function cachedByPrefill(prepared: Prepared): number | null {
  return prepared.handover.type === "pull" ? prepared.handover.remote.cached_tokens : null;
}

function choiceText(prepared: Prepared, piece: Piece, index: number): Piece {
  if (index > 0 || prepared.echo === "" || piece.type !== "text") return piece;
  return { type: "text", text: prepared.echo + piece.text };
}

function logprobsOf(prepared: Prepared, piece: Piece): unknown {
  if (!prepared.logprobs || piece.type === "call") return null;
  return prepared.kind === "chat" ? chatLogprobs([piece.text]) : completionLogprobs([piece.text], 0);
}
