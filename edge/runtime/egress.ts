/**
 * The only way from an isolate to the network: exact hosts that the deployment names. The isolate follows redirects itself, by
 * asking here again, so each hop is checked.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import type { GuestReply } from "../../schema/core/wire/guest.ts";
import type { Env } from "../env.ts";
import type { CapabilityProps } from "./capabilities.ts";
import { hostAt } from "./execution-host.ts";

/** One run's way out. */
export type EgressProps = CapabilityProps & { readonly hosts: readonly string[] };

/** The isolate's `fetch` turns it into an error with a code (sdk/guest/globals.ts). */
const FORBIDDEN_HEADER = "x-millrace-egress-forbidden";
/** Named, so that an environment that is missing or mistyped keeps the wall. */
const INSIDE_ALLOWED: ReadonlySet<string> = new Set<Env["MILLRACE_ENV"]>(["development", "test"]);

export class Egress extends WorkerEntrypoint<Env, EgressProps> {
  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (!isAllowed(url, this.ctx.props.hosts) || (!INSIDE_ALLOWED.has(this.env.MILLRACE_ENV) && isInside(url.hostname))) {
      return new Response(null, { status: 403, headers: { [FORBIDDEN_HEADER]: url.host } });
    }
    // A socket would speak on without being asked about again.
    if (request.headers.has("upgrade") || !(await this.#goesOn()))
      return new Response(null, { status: 403, headers: { [FORBIDDEN_HEADER]: url.host } });
    const outgoing = new Request(request, { redirect: "manual" });
    outgoing.headers.delete(FORBIDDEN_HEADER);
    const answer = await fetch(outgoing);
    if (!answer.headers.has(FORBIDDEN_HEADER)) return answer;
    const cleaned = new Response(answer.body, answer);
    cleaned.headers.delete(FORBIDDEN_HEADER);
    return cleaned;
  }

  /**
   * Whether the run still goes on, as its object sees it: code that outlives its run reaches nothing. The object is asked what is no
   * request at all; one that is over, or that knows nothing of the execution, denies even that.
   */
  async #goesOn(): Promise<boolean> {
    const { host, execution } = this.ctx.props;
    try {
      const reply = JSON.parse(await hostAt(this.env, host).guest(execution, "journal null")) as GuestReply;
      return reply.ok || reply.error.code !== "capability_denied";
    } catch {
      return false;
    }
  }

  /** Raw sockets lead nowhere: an allow-list of hosts says nothing about what is spoken there. */
  override async connect(socket: Socket): Promise<void> {
    await socket.close();
  }
}

/** `host` fits its default port only; `host:8443` that port. The URL parser has already undone tricks of spelling. */
export function isAllowed(url: URL, hosts: readonly string[]): boolean {
  if (url.protocol !== "https:" && url.protocol !== "http:") return false;
  if (url.username !== "" || url.password !== "") return false;
  return hosts.some((host) => host.toLowerCase() === url.host);
}

/** Address literals and names that mean this machine or its network. A public name that resolves inside is the platform's to refuse. */
export function isInside(hostname: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "");
  if (name === "localhost" || name.endsWith(".localhost") || name.endsWith(".internal") || name.endsWith(".local")) return true;
  if (name.includes(":")) return true; // IPv6 literals: none is a host that one deploys against
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(name);
}
