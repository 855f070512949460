/**
 * What a guest is given: four stubs, made anew for each execution, whose props name the object and the execution that they
 * speak for (D8). Who that is — tenant, function, session — only the object knows; a guest cannot say it. Once the execution is
 * over its object denies whatever still arrives.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { failure } from "../../schema/core/errors.ts";
import { GUEST_REQUEST_BYTES_MAX, type GuestReply, type GuestStreamLine } from "../../schema/core/wire/guest.ts";
import type { Env } from "../env.ts";
import { hostAt } from "./execution-host.ts";
import type { HostAddress } from "./execution.ts";
import { utf8FitsIn } from "./utf8.ts";

export type CapabilityProps = { readonly host: HostAddress; readonly execution: string };
export type CapabilityName = "ai" | "memory" | "call" | "journal";

abstract class Capability extends WorkerEntrypoint<Env, CapabilityProps> {
  protected abstract readonly capability: CapabilityName;

  async ask(request: unknown): Promise<string> {
    if (!isText(request)) return refuse("A capability takes JSON text of a bounded size.");
    const { host, execution } = this.ctx.props;
    try {
      return await hostAt(this.env, host).guest(execution, `${this.capability} ${request}`);
    } catch {
      // The object died, and the run that asked with it; it will be replayed.
      return gone;
    }
  }
}

export class AI extends Capability {
  protected readonly capability = "ai";

  async open(request: unknown): Promise<ReadableStream<Uint8Array>> {
    const { host, execution } = this.ctx.props;
    try {
      return await hostAt(this.env, host).guestStream(execution, `ai ${isText(request) ? request : "null"}`);
    } catch {
      return new Response(gone_line).body ?? new ReadableStream();
    }
  }
}

export class MemoryCapability extends Capability {
  protected readonly capability = "memory";
}

export class CallCapability extends Capability {
  protected readonly capability = "call";
}

/** Log lines, events, steps. */
export class JournalCapability extends Capability {
  protected readonly capability = "journal";
}

const isText = (request: unknown): request is string => typeof request === "string" && utf8FitsIn(request, GUEST_REQUEST_BYTES_MAX);
const interrupted = failure("internal", "The run was interrupted.");
const gone = JSON.stringify({ ok: false, error: interrupted } satisfies GuestReply);
const gone_line = `${JSON.stringify({ type: "error", error: interrupted } satisfies GuestStreamLine)}\n`;
const refuse = (detail: string): string => JSON.stringify({ ok: false, error: failure("invalid_request", detail) } satisfies GuestReply);
