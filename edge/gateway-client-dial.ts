/** Opens a socket to the gateway: a fresh token, the upgrade, hello and welcome; and says whether trying again may help. */
import { ERRORS, failure, type ErrorCode, type Failure } from "../schema/core/errors.ts";
import { LINK_PROTOCOL, linkFromGateway, type LinkFromEdge, type LinkFromGateway } from "../schema/core/wire/link.ts";
import type { TokenClaims } from "../schema/core/wire/token.ts";
import { signGatewayToken } from "./gateway-client-token.ts";

const VERSION = 1;

export type DialOptions = {
  readonly env: { readonly GATEWAY_URL: string; readonly MILLRACE_CELL_SECRET: string };
  readonly link_id: string;
  readonly claims: TokenClaims;
};
export type DialOutcome =
  | { readonly kind: "welcomed"; readonly socket: WebSocket }
  /** Nobody there, or a gateway that is starting: trying again may help. */
  | { readonly kind: "unreachable"; readonly detail: string }
  /** The gateway will not have it; repeating does not help. */
  | { readonly kind: "refused"; readonly error: Failure };

export async function dial(options: DialOptions, connect_ms_max: number, abort: AbortController): Promise<DialOutcome> {
  const { env, claims, link_id } = options;
  const timer = setTimeout(() => abort.abort(), connect_ms_max);
  try {
    // A fresh token each time: the one of the last connection may have expired, or its key may have been revoked.
    const token = await signGatewayToken(env.MILLRACE_CELL_SECRET, claims);
    const response = await fetch(`${env.GATEWAY_URL}/link`, {
      headers: { upgrade: "websocket", "sec-websocket-protocol": LINK_PROTOCOL, authorization: `Bearer ${token}` },
      signal: abort.signal,
    });
    const socket = response.webSocket;
    if (!socket) return await refusedUpgrade(response);
    return await greet(socket, link_id, abort.signal);
  } catch (error) {
    return { kind: "unreachable", detail: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** Accepts the socket, says hello, and waits for the gateway's first word. */
async function greet(socket: WebSocket, link_id: string, signal: AbortSignal): Promise<DialOutcome> {
  const { promise, resolve } = Promise.withResolvers<DialOutcome>();
  socket.addEventListener(
    "message",
    (event) => {
      const frame = typeof event.data === "string" ? parseLinkFrame(event.data) : undefined;
      if (frame?.type === "welcome" && frame.version === VERSION) resolve({ kind: "welcomed", socket });
      else if (frame?.type === "fault") resolve({ kind: "refused", error: toFailure(frame.error) });
      else resolve({ kind: "unreachable", detail: "the gateway's first frame was no welcome" });
    },
    { once: true },
  );
  socket.addEventListener("close", () => resolve({ kind: "unreachable", detail: "closed before the welcome" }), { once: true });
  signal.addEventListener("abort", () => resolve({ kind: "unreachable", detail: "no welcome in time" }), { once: true });
  socket.accept();
  socket.send(JSON.stringify({ type: "hello", versions: [VERSION], link: link_id } satisfies LinkFromEdge));
  const outcome = await promise;
  if (outcome.kind !== "welcomed") {
    try {
      socket.close(1000, "no welcome");
    } catch {
      // Already closed by the other end.
    }
  }
  return outcome;
}

/** A refused token does not get better by repeating; anything else may be a gateway that is starting. */
async function refusedUpgrade(response: Response): Promise<DialOutcome> {
  const body = await response.text();
  if (response.status !== 401 && response.status !== 403) return { kind: "unreachable", detail: `the gateway answered ${response.status}` };
  return { kind: "refused", error: failure(codeIn(body) ?? "gateway_unavailable", "the gateway refused the edge's token") };
}

function codeIn(body: string): ErrorCode | undefined {
  try {
    const problem: unknown = JSON.parse(body);
    if (typeof problem !== "object" || problem === null || !("code" in problem)) return undefined;
    const { code } = problem;
    return typeof code === "string" && code in ERRORS ? (code as ErrorCode) : undefined;
  } catch {
    return undefined;
  }
}

export function parseLinkFrame(text: string): LinkFromGateway | undefined {
  try {
    const parsed = linkFromGateway.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

export function toFailure(error: { code: ErrorCode; detail?: string | undefined; param?: string | undefined }): Failure {
  return failure(error.code, error.detail, error.param);
}
