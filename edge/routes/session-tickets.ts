/**
 * Tickets: browsers cannot set headers on a WebSocket, and must not hold an API key. A ticket is a JWT (HS256) that lets whoever
 * has it connect to one session for a minute; it has an audience of its own, so that neither the gateway nor another door takes it.
 */
import { jwtVerify, SignJWT } from "jose";
import { failure, type Failure } from "../../schema/core/errors.ts";
import { asId } from "../../schema/core/ids.ts";
import { TOKEN_ISSUER, tokenClaims } from "../../schema/core/wire/token.ts";
import type { Caller } from "../door.ts";

export const TICKET_TTL_S = 60;
const AUDIENCE = "millrace-session";

export type IssuedTicket = { readonly ticket: string; readonly expires_at_ms: number };

export async function issueTicket(secret: string, session: string, caller: Caller, now_ms: number): Promise<IssuedTicket> {
  const { tenant, project, key, scopes } = caller;
  const expires_at_s = Math.floor(now_ms / 1_000) + TICKET_TTL_S;
  const ticket = await new SignJWT({ session, tenant, project, key, scopes: [...scopes] })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer(TOKEN_ISSUER)
    .setAudience(AUDIENCE)
    .setExpirationTime(expires_at_s)
    .sign(keyOf(secret));
  return { ticket, expires_at_ms: expires_at_s * 1_000 };
}

export type TicketRead = { readonly ok: true; readonly caller: Caller } | { readonly ok: false; readonly error: Failure };

export async function readTicket(secret: string, session: string, ticket: string): Promise<TicketRead> {
  const refused = { ok: false, error: failure("invalid_key", "The ticket is no ticket of this session, or has expired.") } as const;
  try {
    const { payload } = await jwtVerify(ticket, keyOf(secret), { issuer: TOKEN_ISSUER, audience: AUDIENCE, algorithms: ["HS256"] });
    const claims = tokenClaims.safeParse(payload);
    if (!claims.success || payload["session"] !== session) return refused;
    const { tenant, project, key, scopes } = claims.data;
    return { ok: true, caller: { tenant: asId<"tenant">(tenant), project: asId<"project">(project), key, scopes } };
  } catch {
    return refused;
  }
}

const keyOf = (secret: string): Uint8Array => new TextEncoder().encode(secret);
