/** The short token that the edge signs for the gateway once it has verified a key at the door (schema/core/wire/token.ts). */
import { SignJWT } from "jose";
import { TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_TTL_S, type TokenClaims } from "../schema/core/wire/token.ts";

export async function signGatewayToken(cell_secret: string, claims: TokenClaims): Promise<string> {
  const { tenant, project, key, scopes } = claims;
  return new SignJWT({ tenant, project, key, scopes })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer(TOKEN_ISSUER)
    .setAudience(TOKEN_AUDIENCE)
    .setIssuedAt()
    .setExpirationTime(`${TOKEN_TTL_S}s`)
    .sign(new TextEncoder().encode(cell_secret));
}
