/**
 * The short token that travels behind the door: a JWT (HS256, RFC 7519) that the edge signs with the cell secret after it
 * has verified an API key, so that the gateway needs no database to know who asks.
 * Claims: `iss` "millrace-edge", `aud` "millrace-gateway", `exp` at most TOKEN_TTL_S ahead, and those below.
 */
import { z } from "zod";
import { ID_PATTERN } from "../ids.ts";

export const TOKEN_ISSUER = "millrace-edge";
export const TOKEN_AUDIENCE = "millrace-gateway";
export const TOKEN_TTL_S = 300;

/** What a key may do. `infer`: call models; `invoke`: run functions and sessions; `deploy`; `usage`; `admin`: keys. */
export const SCOPES = ["infer", "invoke", "deploy", "usage", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

export const tokenClaims = z.object({
  tenant: z.string().regex(ID_PATTERN),
  project: z.string().regex(ID_PATTERN),
  key: z.string().regex(ID_PATTERN),
  scopes: z.array(z.enum(SCOPES)),
});
export type TokenClaims = z.infer<typeof tokenClaims>;
