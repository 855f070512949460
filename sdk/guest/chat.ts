/** Chat as a whole and as a stream, over the `ai` capability. */
import type { ChatResult, GuestStreamLine } from "../../schema/core/wire/guest.ts";
import { MillraceError } from "./error.ts";
import { fromNdjson } from "./ndjson.ts";
import { asError, type Session } from "./session.ts";
import type { ChatChunk, ChatInput, ChatStream } from "./types.ts";

export const chatBody = (input: ChatInput): Record<string, unknown> =>
  typeof input === "string" ? { messages: [{ role: "user", content: input }] } : input;

/** Starts at once: also a stream that nobody iterates is answered. */
export function openStream(
  session: Session,
  request: { path: string; agent: string | undefined; body: Record<string, unknown> },
): ChatStream {
  const { promise: result, resolve, reject } = Promise.withResolvers<ChatResult>();
  result.catch(() => undefined); // a caller may want only the pieces
  const opened = session.open({ op: "chat", ...request } as unknown as Parameters<Session["open"]>[0]);
  opened.catch(reject);
  let started = false;

  async function* pieces(): AsyncGenerator<ChatChunk> {
    started = true;
    try {
      for await (const line of fromNdjson<GuestStreamLine>(await opened)) {
        if (line.type === "delta") yield { text: line.text, delta: line.delta };
        else if (line.type === "end") return resolve(line.result);
        else throw asError(line.error);
      }
      throw new MillraceError("internal", "The stream ended early.");
    } catch (error) {
      reject(error);
      throw error;
    } finally {
      reject(new MillraceError("cancelled", "The stream was left before its end."));
    }
  }

  return {
    [Symbol.asyncIterator]: () => {
      if (started) throw new MillraceError("invalid_request", "A chat stream is iterated once.");
      return pieces();
    },
    get result() {
      if (!started) void drain(pieces());
      return result;
    },
  };
}

async function drain(pieces: AsyncGenerator<ChatChunk>): Promise<void> {
  try {
    for await (const _ of pieces);
  } catch {
    // `result` has it.
  }
}
