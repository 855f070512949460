/**
 * One link: hello, then calls, cancels, credits and pings (schema/core/wire/link.ts).
 *
 *   opened ──hello──▶ welcomed ──close or error──▶ closed
 *      └─ no hello in LINK_HELLO_MS, no common version, too many malformed frames, its key revoked ─▶ closed
 *
 * Calls outlive their link: when it closes each runs on and keeps its output for LINK_RESUME_WINDOW_MS.
 */
import type { RawData, WebSocket } from "ws";
import { failure, type Failure } from "../../../schema/core/errors.ts";
import { asId, ID_PATTERN, type CallId } from "../../../schema/core/ids.ts";
import { ENGINE_INTERNAL_FIELDS } from "../../../schema/core/wire/chat.ts";
import { LINK_CALLS_MAX } from "../../../schema/core/wire/limits.ts";
import { linkFromEdge, type LinkFromEdge, type LinkFromGateway } from "../../../schema/core/wire/link.ts";
import { lacksScope, type Credential } from "../auth.ts";
import type { Doors } from "../doors.ts";
import { LINK_FAULTS_MAX, LINK_HELLO_MS, LINK_PING_MS, LINK_SOCKET_BYTES_MAX } from "../limits.ts";
import { tagsOf } from "../openai/inference.ts";
import { LinkReader, type LinkSender } from "./reader.ts";

export const LINK_VERSION = 1;
const POLICY_VIOLATION = 1008;
const GOING_AWAY = 1001;

type CallFrame = Extract<LinkFromEdge, { type: "call" }>;

export class LinkConnection implements LinkSender {
  readonly credential: Credential;
  readonly #doors: Doors;
  readonly #socket: WebSocket;
  readonly #readers = new Map<CallId, LinkReader>();
  readonly #hello: NodeJS.Timeout;
  readonly #pings: NodeJS.Timeout;
  #welcomed = false;
  #alive = true;
  #faults = 0;
  #waiting = false;

  constructor(doors: Doors, socket: WebSocket, credential: Credential, on_close: (link: LinkConnection) => void) {
    this.#doors = doors;
    this.#socket = socket;
    this.credential = credential;
    this.#hello = setTimeout(() => socket.close(POLICY_VIOLATION, "no hello"), LINK_HELLO_MS);
    this.#pings = setInterval(() => this.#ping(), LINK_PING_MS);
    socket.on("pong", () => (this.#alive = true));
    socket.on("message", (data, binary) => this.#onMessage(data, binary));
    // ws closes by itself after an error; there is nobody to tell.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed();
      on_close(this);
    });
  }

  get congested(): boolean {
    return this.#socket.bufferedAmount > LINK_SOCKET_BYTES_MAX;
  }

  send(frame: LinkFromGateway): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    this.#socket.send(JSON.stringify(frame), this.#sent);
    this.#waiting ||= this.congested;
  }

  finished(reader: LinkReader): void {
    reader.call.output.detach(reader);
    this.#readers.delete(reader.call.call.call_id);
  }

  /** The gateway stops, or its key was revoked. */
  end(why: Failure): void {
    this.send({ type: "fault", error: why });
    this.#socket.close(why.code === "revoked_key" ? POLICY_VIOLATION : GOING_AWAY, why.code);
  }

  readonly #sent = (): void => {
    if (!this.#waiting || this.congested) return;
    this.#waiting = false;
    for (const reader of this.#readers.values()) reader.wake();
  };

  #onMessage(data: RawData, binary: boolean): void {
    const frame = binary ? undefined : parse(data);
    if (frame === undefined) return this.#fault(binary ? "binary frames carry nothing here" : "not a frame of the protocol");
    if (frame.type === "wrong") return this.#fault(frame.detail);
    if (frame.type === "internal") return this.#internal(frame);
    if (frame.type === "hello") return this.#greet(frame.versions);
    if (!this.#welcomed) return this.#fault("the first frame is hello");
    switch (frame.type) {
      case "call":
        return this.#call(frame);
      case "cancel":
        return this.#cancel(asId<"call">(frame.call), frame.reason);
      case "credit":
        return this.#readers.get(asId<"call">(frame.call))?.credit(frame.n);
      case "ping":
        return this.send({ type: "pong", t: frame.t });
    }
  }

  /** The sender of a call must hear of its end: where the frame names the call it is refused, not only faulted (I2). */
  #internal({ call, from, failure: why }: Internal): void {
    if (call === null || !this.#welcomed) return this.#fault(why.detail ?? why.code);
    this.send({ type: "refused", call, n: from + 1, error: why, emitted: from });
  }

  #greet(versions: readonly number[]): void {
    clearTimeout(this.#hello);
    if (!versions.includes(LINK_VERSION)) {
      this.send({ type: "fault", error: failure("unsupported_version", `spoken here: ${LINK_VERSION}`) });
      return this.#socket.close(POLICY_VIOLATION, "unsupported_version");
    }
    this.#welcomed = true;
    this.send({ type: "welcome", version: LINK_VERSION, cell: this.#doors.cell, epoch: this.#doors.epoch });
  }

  #call(frame: CallFrame): void {
    const call_id = asId<"call">(frame.call);
    const { runtime } = this.#doors;
    const known = runtime.calls.find(call_id);
    const refusal = this.#whyNot(frame, known !== undefined);
    if (refusal !== null) return this.#refuse(frame, refusal);
    const submission = runtime.submit({
      call_id,
      tags: tagsOf(this.credential, frame.body.model, call_id, frame.context),
      kind: frame.kind,
      body: frame.body,
      deadline_ms: frame.context.deadline_ms,
      resumable: true,
    });
    if (submission.type === "refused") return this.#refuse(frame, submission.failure, submission.retry_after_ms);
    const { call } = submission;
    if (!call.output.has(frame.from)) return this.#refuse(frame, failure("gateway_lost", `frames after ${frame.from} are not kept`));
    const before = this.#readers.get(call_id);
    if (before !== undefined) call.output.detach(before);
    const reader = new LinkReader(this, call, frame.from);
    this.#readers.set(call_id, reader);
    call.output.attach(reader);
    reader.wake();
  }

  #whyNot(frame: CallFrame, known: boolean): Failure | null {
    const lacks = lacksScope(this.credential, "infer");
    if (lacks !== null) return lacks;
    // What was told of a call that is not known here is lost: running it again would tell something else.
    if (!known && frame.from > 0) return failure("gateway_lost", "the gateway does not know this call any more");
    if (!this.#readers.has(asId<"call">(frame.call)) && this.#readers.size >= LINK_CALLS_MAX)
      return failure("rate_limited", `at most ${LINK_CALLS_MAX} calls on one link`);
    if ((frame.kind === "chat") !== "messages" in frame.body)
      return failure("invalid_request", `the body is not that of a ${frame.kind} call`, "body");
    return null;
  }

  #refuse(frame: CallFrame, error: Failure, retry_after_ms: number | null = null): void {
    const retry = retry_after_ms === null ? {} : { retry_after_ms };
    this.send({ type: "refused", call: frame.call, n: frame.from + 1, error, emitted: frame.from, ...retry });
  }

  #cancel(call_id: CallId, reason: string): void {
    const known = this.#doors.runtime.calls.find(call_id);
    // Another tenant's call is as good as unknown (I3).
    if (known?.tags.tenant === this.credential.claims.tenant && known.tags.project === this.credential.claims.project)
      this.#doors.runtime.cancel(call_id, reason);
  }

  #fault(detail: string): void {
    this.send({ type: "fault", error: failure("malformed_frame", detail) });
    this.#faults += 1;
    if (this.#faults >= LINK_FAULTS_MAX) this.#socket.close(POLICY_VIOLATION, "malformed_frame");
  }

  #ping(): void {
    if (!this.#alive) return this.#socket.terminate();
    this.#alive = false;
    this.#socket.ping();
  }

  #closed(): void {
    clearTimeout(this.#hello);
    clearInterval(this.#pings);
    for (const reader of this.#readers.values()) {
      reader.call.output.detach(reader);
      this.#doors.runtime.detached(reader.call.call.call_id);
    }
    this.#readers.clear();
  }
}

type Wrong = { readonly type: "wrong"; readonly detail: string };
/** A call whose body sets what only the gateway may (I11). */
type Internal = { readonly type: "internal"; readonly call: string | null; readonly from: number; readonly failure: Failure };

/** The frame, or what is wrong with it. */
function parse(data: RawData): LinkFromEdge | Wrong | Internal {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.isBuffer(data) ? data.toString("utf8") : "");
  } catch {
    return { type: "wrong", detail: "not JSON" };
  }
  const internal = internalField(value);
  if (internal !== undefined) return internal;
  const parsed = linkFromEdge.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return { type: "wrong", detail: `${issue?.path.join(".") || "frame"}: ${issue?.message ?? "wrong"}` };
}

function internalField(value: unknown): Internal | undefined {
  if (typeof value !== "object" || value === null || !("body" in value) || typeof value.body !== "object" || value.body === null)
    return undefined;
  const { body } = value;
  const field = ENGINE_INTERNAL_FIELDS.find((name) => Object.hasOwn(body, name));
  if (field === undefined) return undefined;
  const call = "call" in value && typeof value.call === "string" && ID_PATTERN.test(value.call) ? value.call : null;
  const from = "from" in value && Number.isSafeInteger(value.from) && Number(value.from) >= 0 ? Number(value.from) : 0;
  return { type: "internal", call, from, failure: failure("engine_internal_field", `body.${field} is not for clients to set`, field) };
}
