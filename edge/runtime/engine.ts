/**
 * One execution of a guest function. See execution.ts for where it stands; the pieces:
 *   isolate.ts  the guest's isolate          steps.ts        what was done is not done again
 *   call-ledger.ts  model calls              children.ts     called functions
 *   relayed-calls.ts  model calls of a called function
 *
 *   created ──run──▶ running ──the guest settled, or it was stopped──▶ over
 *
 * Over happens once, whatever comes first: the guest's own end, the deadline, a cancel. From then on every capability is denied,
 * and what it left behind — model calls in flight, called functions — is cancelled.
 */
import { ERRORS, failure, type ErrorCode, type Failure } from "../../schema/core/errors.ts";
import { hashParts, sha256Hex } from "../../schema/core/hash.ts";
import { callId, type RunId } from "../../schema/core/ids.ts";
import {
  guestRequest,
  RESULT_BYTES_MAX,
  type ChatResult,
  type GuestInvocation,
  type GuestOp,
  type GuestReply,
  type GuestRequest,
  type GuestResult,
  type GuestStreamLine,
} from "../../schema/core/wire/guest.ts";
import { EMIT_BYTES_MAX, STEP_CHARS_MAX } from "../../schema/core/wire/limits.ts";
import type { ResolvedFunction } from "../functions.ts";
import type { GatewayCall } from "../gateway-client-call.ts";
import { CallLedger, type Calls, type NumberedFrame } from "./call-ledger.ts";
import type { CapabilityName } from "./capabilities.ts";
import { ChatAnswer } from "./chat-answer.ts";
import { Callees } from "./callees.ts";
import { Children } from "./children.ts";
import { hostAt } from "./execution-host.ts";
import type { Execution, ExecutionFact, ExecutionOptions, Outcome } from "./execution.ts";
import { HandOver } from "./hand-over.ts";
import { isolateFailure, runInIsolate } from "./isolate.ts";
import { depthOf, JSON_DEPTH_MAX } from "./json-depth.ts";
import { memoryFor } from "./memory-scope.ts";
import { toNdjson } from "./ndjson.ts";
import { objectLimits } from "./object-limits.ts";
import { utf8FitsIn } from "./utf8.ts";
import { RelayedCalls } from "./relayed-calls.ts";
import { bad, good, type Result } from "./result.ts";
import { Steps } from "./steps.ts";
import { createExecutionTables } from "./tables.ts";

/** Lines and events that one execution may place; beyond it an event is `too_many_steps` and a line is only counted. */
const JOURNAL_PLACES_MAX = 100_000;
/** What a guest says of its own failure: the rest is cut off. */
const DETAIL_CHARS_MAX = 4_000;
/** A model call lives at most this long; the run's own deadline may be nearer. */
const CALL_MS_MAX = 900_000;

const ALLOWED: Readonly<Record<CapabilityName, readonly GuestOp[]>> = {
  ai: ["chat"],
  memory: ["memory.get", "memory.set", "memory.delete", "memory.list"],
  call: ["call"],
  journal: ["journal", "step.begin", "step.done", "step.failed"],
};
/** Codes that arise inside the isolate, so that the object cannot have given them out. */
const GUEST_CODES: readonly ErrorCode[] = [
  "egress_forbidden",
  "capability_denied",
  "invalid_request",
  "result_not_serializable",
  "too_many_steps",
];

export function createExecution(options: ExecutionOptions): Execution {
  createExecutionTables(options.ctx.storage.sql);
  return new Engine(options);
}

class Engine implements Execution {
  readonly id = hashParts("execution", crypto.randomUUID()).slice(0, 32);
  readonly #options: ExecutionOptions;
  readonly #calls: Calls;
  readonly #steps: Steps;
  readonly #children: Children;
  readonly #callees: Callees;
  readonly #stopped = Promise.withResolvers<Outcome>();
  /** Codes that a capability answered with: a guest that passes one on keeps it, a guest that makes one up does not. */
  readonly #codes_given = new Set<string>(GUEST_CODES);
  readonly #abort = new AbortController();
  #over = false;

  constructor(options: ExecutionOptions) {
    this.#options = options;
    const { ctx, env, identity, sink } = options;
    const rows = { storage: ctx.storage, program: identity.program, sink };
    this.#calls = identity.root ? new RelayedCalls({ ...rows, link: options.gateway }) : new CallLedger({ ...rows, link: options.gateway });
    this.#steps = new Steps(rows);
    const { connections } = objectLimits(ctx);
    const { root } = identity;
    this.#callees = new Callees(env, identity, connections);
    this.#children = new Children({
      env,
      identity,
      host: options.host,
      deadline_at_ms: options.deadline_at_ms,
      connections,
      find: root ? (name) => connections.run(() => hostAt(env, root).callee(identity.program, name)) : (name) => this.callee(name),
    });
  }

  async run(input: unknown): Promise<Outcome> {
    const left_ms = this.#options.deadline_at_ms - Date.now();
    const limit_ms = this.#options.config.timeout_ms;
    const timed_out = failure("function_timeout", `The function did not settle within ${limit_ms} ms.`);
    if (left_ms <= 0) this.#stopped.resolve({ status: "failed", error: timed_out });
    const timer = setTimeout(() => this.#stopped.resolve({ status: "failed", error: timed_out }), Math.max(0, left_ms));
    try {
      return await Promise.race([this.#stopped.promise, this.#invoke(input)]);
    } finally {
      clearTimeout(timer);
      this.#over = true;
      this.#abort.abort();
      this.#calls.close("the run is over");
      this.#children.close("the run is over");
    }
  }

  cancel(reason: string): void {
    this.#stopped.resolve({ status: "cancelled", error: failure("cancelled", reason) });
  }

  fail(error: Failure): void {
    this.#stopped.resolve({ status: "failed", error });
  }

  async #invoke(input: unknown): Promise<Outcome> {
    const { ctx, env, host, identity, code, config } = this.#options;
    const invocation: GuestInvocation = {
      input,
      run: {
        id: identity.run ?? identity.program,
        function: identity.function_name,
        version: identity.version,
        agent: identity.agent,
        ...(identity.session === undefined ? {} : { session: identity.session }),
      },
      egress: config.egress,
    };
    const { tenant } = identity;
    const props = { host, execution: this.id };
    try {
      const answer = await objectLimits(ctx).workers.run(async () => {
        if (this.#over) throw new Error("the execution was over before it began");
        return runInIsolate({ ctx, env, tenant, function: identity.function, code, config, props, invocation, signal: this.#abort.signal });
      });
      return answer.ok ? this.#outcomeOf(answer.value) : { status: "failed", error: answer.error, began: false };
    } catch (error) {
      return { status: "failed", error: isolateFailure(error) };
    }
  }

  #outcomeOf(answer: string): Outcome {
    const bytes = new TextEncoder().encode(answer).length;
    if (bytes > RESULT_BYTES_MAX) {
      return {
        status: "failed",
        error: failure("result_not_serializable", `The output is ${bytes} bytes; the limit is ${RESULT_BYTES_MAX}.`),
      };
    }
    // The envelope is one level of its own.
    if (depthOf(answer) > JSON_DEPTH_MAX + 1) {
      return { status: "failed", error: failure("result_not_serializable", `The output is nested deeper than ${JSON_DEPTH_MAX}.`) };
    }
    const result = parsedAnswer(answer);
    if (!result)
      return { status: "failed", error: failure("function_threw", "The function ended without an answer of the kind that runs give.") };
    if (result.ok) return { status: "done", output: result.output ?? null };
    // The harness sends text; a guest that answers in its place may send anything.
    const detail = typeof result.detail === "string" ? result.detail.slice(0, DETAIL_CHARS_MAX) : undefined;
    if (result.kind === "not_serializable") return { status: "failed", error: failure("result_not_serializable", detail) };
    const passed_on = result.code !== undefined && result.code in ERRORS && this.#codes_given.has(result.code);
    return { status: "failed", error: failure(passed_on ? (result.code as ErrorCode) : "function_threw", detail) };
  }

  // --- what the guest asks ---

  async guest(text: string): Promise<string> {
    const parsed = this.#parse(text);
    const result = parsed.ok ? await this.#answer(parsed.value) : parsed;
    return JSON.stringify(this.#reply(result));
  }

  guestStream(text: string): ReadableStream<Uint8Array> {
    const parsed = this.#parse(text);
    return toNdjson(this.#chatLines(parsed));
  }

  #reply(result: Result<unknown>): GuestReply {
    if (result.ok) return result;
    this.#codes_given.add(result.error.code);
    return result;
  }

  /** `<capability> <json>`: the capability is the entry point's word, the rest is the guest's. */
  #parse(text: string): Result<GuestRequest> {
    if (this.#over) return bad("capability_denied", "The run is over.");
    const space = text.indexOf(" ");
    const capability = text.slice(0, space) as CapabilityName;
    let json: unknown;
    try {
      json = JSON.parse(text.slice(space + 1));
    } catch {
      return bad("invalid_request", "A capability takes JSON text.");
    }
    const parsed = guestRequest.safeParse(json);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      const field = issue?.path.join(".") ?? "";
      if (issue?.code === "unrecognized_keys") {
        return bad("capability_denied", `A guest may not say ${issue.keys.join(", ")}: a capability reaches what its own run was given.`);
      }
      return bad("invalid_request", `${field === "" ? "request" : field}: ${issue?.message ?? "wrong"}`, field);
    }
    if (!ALLOWED[capability].includes(parsed.data.op)) return bad("capability_denied", `${capability} does not do ${parsed.data.op}.`);
    return good(parsed.data);
  }

  async #answer(request: GuestRequest): Promise<Result<unknown>> {
    switch (request.op) {
      case "chat":
        return this.#chat(request);
      case "memory.get":
      case "memory.set":
      case "memory.delete":
      case "memory.list":
        return this.#memory(request);
      case "call":
        return this.#call(request);
      case "step.begin": {
        const begun = this.#steps.begin(request.path, "step", this.#voice(request));
        if (!begun.ok) return begun;
        const { ended } = begun.value;
        if (!ended) return good({});
        return ended.ok ? good({ memo: { value: ended.value } }) : ended;
      }
      case "step.done":
        return this.#steps.end(request.path, good(request.value), this.#voice(request));
      case "step.failed":
        this.#steps.end(request.path, bad("function_threw", request.detail), this.#voice(request));
        return good(null);
      case "journal":
        return this.#journal(request.entries);
    }
  }

  // --- models ---

  #chat(
    request: Extract<GuestRequest, { op: "chat" }>,
    onPiece?: (frame: NumberedFrame) => Promise<"on" | "enough">,
  ): Promise<Result<ChatResult>> {
    return this.#steps.memo(request.path, hashOf(request.body), async () => {
      const call = this.#gatewayCall(request);
      this.#calls.open(call);
      const answer = new ChatAnswer();
      for await (const frame of this.#calls.frames(call.call, 0)) {
        answer.add(frame);
        if (onPiece && (await onPiece(frame)) === "enough") {
          this.#calls.cancel(call.call, "the guest stopped reading");
          return good(answer.partial());
        }
      }
      return answer.result();
    });
  }

  async *#chatLines(parsed: Result<GuestRequest>): AsyncGenerator<GuestStreamLine> {
    if (!parsed.ok) return yield this.#errorLine(parsed.error);
    const request = parsed.value;
    if (request.op !== "chat") return yield this.#errorLine(failure("capability_denied"));
    // One piece at a time passes from the call to the reader: a slow guest holds back its own reading, never the call.
    const pieces = new HandOver<NumberedFrame>();
    let streamed = false;
    const answered = this.#chat(request, (frame) => pieces.give(frame)).finally(() => pieces.end());
    try {
      for await (const frame of pieces.take()) {
        if (frame.type !== "token") continue;
        streamed = true;
        const text = frame.delta["content"];
        yield { type: "delta", text: typeof text === "string" ? text : "", delta: frame.delta };
      }
      const result = await answered;
      if (!result.ok) return yield this.#errorLine(result.error);
      if (!streamed && result.value.text !== "") yield { type: "delta", text: result.value.text, delta: { content: result.value.text } };
      yield { type: "end", result: result.value };
    } finally {
      pieces.leave();
    }
  }

  #errorLine(error: Failure): GuestStreamLine {
    this.#codes_given.add(error.code);
    return { type: "error", error };
  }

  #gatewayCall(request: Extract<GuestRequest, { op: "chat" }>): GatewayCall {
    const { identity, deadline_at_ms } = this.#options;
    const place = identity.path_prefix + request.path;
    // A place deep in its program is told by a hash of what leads to the function that asks: the link takes no longer one.
    const step = place.length <= STEP_CHARS_MAX ? place : `~${sha256Hex(identity.path_prefix).slice(0, 32)}/${request.path}`;
    return {
      call: callId(identity.program, place),
      from: 0,
      kind: "chat",
      body: request.body,
      context: {
        program: identity.program,
        ...(identity.run === undefined ? {} : { run: identity.run }),
        ...(identity.session === undefined ? {} : { session: identity.session }),
        function: identity.function,
        version: identity.version,
        step,
        agent: request.agent ?? identity.agent,
        deadline_ms: Math.min(CALL_MS_MAX, Math.max(1, Math.round(deadline_at_ms - Date.now()))),
      },
    };
  }

  relay(request: GatewayCall): ReadableStream<Uint8Array> {
    this.#calls.open(request);
    return toNdjson(this.#calls.frames(request.call, request.from));
  }

  cancelRelay(call: string, reason: string): void {
    this.#calls.cancel(call, reason);
  }

  // --- the rest ---

  #memory(request: Extract<GuestRequest, { op: `memory.${string}` }>): Promise<Result<unknown>> {
    const { env, identity, ctx } = this.#options;
    const { path: _path, agent: _agent, ...wish } = request;
    return this.#steps.memo(request.path, hashOf(wish), () =>
      objectLimits(ctx).connections.run(() => memoryFor(env, identity).perform(wish)),
    );
  }

  #call(request: Extract<GuestRequest, { op: "call" }>): Promise<Result<unknown>> {
    const voice = { path: this.#options.identity.path_prefix + request.path, agent: request.agent ?? request.function };
    return this.#steps.memo(request.path, hashOf([request.function, request.input]), () => this.#children.call(request), voice);
  }

  childDone(run: RunId, outcome: Outcome): void {
    this.#children.done(run, outcome);
  }

  callee(name: string): Promise<ResolvedFunction | null> {
    return this.#callees.find(name);
  }

  calleeCode(version: string): Promise<Result<string>> {
    return this.#callees.code(version);
  }

  #voice(request: { readonly path: string; readonly agent?: string | undefined }) {
    const { path_prefix, agent } = this.#options.identity;
    return { path: path_prefix + request.path, agent: request.agent ?? agent };
  }

  /** A line or event has its place in the order of its scope: on replay it is there already. */
  #journal(entries: Extract<GuestRequest, { op: "journal" }>["entries"]): Result<null> {
    const { ctx, identity, sink } = this.#options;
    for (const entry of entries) {
      if (entry.kind === "emit" && !utf8FitsIn(JSON.stringify(entry.data ?? null), EMIT_BYTES_MAX)) {
        return bad("invalid_request", `emit takes at most ${EMIT_BYTES_MAX} bytes.`, "data");
      }
    }
    const { c: places } = ctx.storage.sql
      .exec<{ c: number }>("SELECT count(*) AS c FROM execution_journal WHERE program = ?", identity.program)
      .one();
    const full = places + entries.length > JOURNAL_PLACES_MAX;
    if (full && entries.some((entry) => entry.kind === "emit"))
      return bad("too_many_steps", `A run has at most ${JOURNAL_PLACES_MAX} lines and events.`);
    const at_ms = Date.now();
    ctx.storage.transactionSync(() => {
      const facts: ExecutionFact[] = [];
      for (const entry of entries) {
        if (full && entry.kind === "log") {
          facts.push({ type: "log", at_ms, level: entry.level, text: entry.text });
          continue;
        }
        const placed = ctx.storage.sql.exec(
          "INSERT INTO execution_journal VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1",
          identity.program,
          entry.path,
        );
        if (placed.toArray().length === 0) continue;
        facts.push(
          entry.kind === "log"
            ? { type: "log", at_ms, level: entry.level, text: entry.text }
            : { type: "event", name: entry.name, data: entry.data ?? null },
        );
      }
      if (facts.length > 0) sink.append(facts);
    });
    return good(null);
  }
}

function parsedAnswer(answer: string): GuestResult | undefined {
  try {
    const parsed: unknown = JSON.parse(answer);
    return typeof parsed === "object" && parsed !== null ? (parsed as GuestResult) : undefined;
  } catch {
    return undefined;
  }
}

const hashOf = (value: unknown): string => sha256Hex(JSON.stringify(value));
