/** What a client's frame is, or why it is none. A wrong frame is answered, never a crash. */
import { failure, type Failure } from "../../schema/core/errors.ts";
import { SESSION_FRAME_BYTES_MAX, SESSION_MESSAGE_CHARS_MAX } from "../../schema/core/wire/limits.ts";
import { sessionFromClient, type SessionFromClient } from "../../schema/core/wire/session.ts";

export type FrameRead =
  | { readonly kind: "frame"; readonly frame: SessionFromClient }
  | { readonly kind: "refused"; readonly error: Failure; readonly id?: string }
  /** The socket is closed with 1009. */
  | { readonly kind: "too_big" };

export function readFrame(data: string | ArrayBuffer): FrameRead {
  const bytes = typeof data === "string" ? textBytes(data) : data.byteLength;
  if (bytes > SESSION_FRAME_BYTES_MAX) return { kind: "too_big" };
  if (typeof data !== "string") return { kind: "refused", error: failure("malformed_frame", "frames are text, not binary") };
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return { kind: "refused", error: failure("malformed_json", "the frame is not valid JSON") };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { kind: "refused", error: failure("malformed_frame", "a frame is a JSON object") };
  }
  const parsed = sessionFromClient.safeParse(value);
  if (parsed.success) return { kind: "frame", frame: parsed.data };
  const id = "id" in value && typeof value.id === "string" ? value.id.slice(0, 128) : undefined;
  return { kind: "refused", error: fault(value, parsed.error.issues[0]), ...(id === undefined ? {} : { id }) };
}

function fault(value: object, issue: { path: PropertyKey[]; message: string } | undefined): Failure {
  const known = "type" in value && sessionFromClient.options.some((option) => option.shape.type.value === value.type);
  if (!known) return failure("malformed_frame", "`type` is one of hello, message, cancel, ack");
  const param = issue?.path.map(String).join(".") ?? "";
  if (param === "text" && "text" in value && typeof value.text === "string" && value.text.length > SESSION_MESSAGE_CHARS_MAX) {
    return failure("invalid_request", `a message is at most ${SESSION_MESSAGE_CHARS_MAX} characters`, param);
  }
  return failure("invalid_request", issue?.message ?? "a field is wrong", param === "" ? undefined : param);
}

/** UTF-8 length, without encoding what is plainly small. */
function textBytes(text: string): number {
  return text.length * 3 <= SESSION_FRAME_BYTES_MAX ? text.length : new TextEncoder().encode(text).length;
}
