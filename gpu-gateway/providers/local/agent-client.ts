/** One agent, asked by HTTP. No retry: an answer, a refusal with its reason, or nothing. */
import { Agent, fetch } from "undici";
import type { z } from "zod";
import type { AgentFile } from "../../node-agent/wire.ts";
import { problem } from "../../node-agent/wire.ts";

/**
 * Connections to one agent, well below what it takes; more requests wait for one (I8). Renewals and polls have their own, so
 * that no number of commands can hold up the lease.
 */
const COMMANDS = new Agent({ connections: 16 });
const LIFELINE = new Agent({ connections: 4 });
const LIFELINE_PATHS = /^\/v1\/(claim|events|node)\b/;

export type Answer<T> =
  | { readonly type: "ok"; readonly value: T }
  | { readonly type: "refused"; readonly code: string; readonly detail: string; readonly current_epoch: number | null }
  /** Nothing came back; the agent may have acted all the same. */
  | { readonly type: "unreachable"; readonly reason: string };

type Ask<T> = {
  readonly path: string;
  readonly answer: z.ZodType<T>;
  readonly body?: unknown;
  readonly bound_ms: number;
  readonly signal?: AbortSignal;
};

export class AgentClient {
  readonly file: AgentFile;

  constructor(file: AgentFile) {
    this.file = file;
  }

  async ask<T>({ path, answer, body, bound_ms, signal }: Ask<T>): Promise<Answer<T>> {
    const bound = AbortSignal.timeout(bound_ms);
    try {
      const response = await fetch(new URL(path, this.file.url), {
        method: body === undefined ? "GET" : "POST",
        headers: { authorization: `Bearer ${this.file.token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal === undefined ? bound : AbortSignal.any([bound, signal]),
        redirect: "error",
        dispatcher: LIFELINE_PATHS.test(path) ? LIFELINE : COMMANDS,
      });
      const content: unknown = await response.json();
      if (response.ok) return { type: "ok", value: answer.parse(content) };
      const { code, detail, current_epoch } = problem.parse(content);
      return { type: "refused", code, detail, current_epoch: current_epoch ?? null };
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      return { type: "unreachable", reason: cause instanceof Error ? cause.message : "unknown" };
    }
  }
}
