/** A token of the edge's: as long as it may live, and no longer. */
import { SignJWT } from "jose";
import { expect, test } from "vitest";
import { TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_TTL_S } from "../../schema/core/wire/token.ts";
import { Authenticator } from "./auth.ts";

const SECRET = "a cell secret of some length, for tests";
const auth = new Authenticator({ find: () => Promise.resolve({ type: "unknown" }), revokedLately: () => Promise.resolve([]) }, SECRET);

const token = (life_s: number): Promise<string> =>
  new SignJWT({ tenant: "ten_a", project: "prj_a", key: "key_a", scopes: ["infer"] })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer(TOKEN_ISSUER)
    .setAudience(TOKEN_AUDIENCE)
    .setExpirationTime(`${life_s}s`)
    .sign(new TextEncoder().encode(SECRET));

test("a token that lives as long as tokens may is taken", async () => {
  expect(await auth.authenticate(`Bearer ${await token(TOKEN_TTL_S)}`)).toMatchObject({ type: "ok", credential: { kind: "token" } });
});

test("a token that would outlive what is remembered of revocations is refused", async () => {
  const outcome = await auth.authenticate(`Bearer ${await token(TOKEN_TTL_S + 60)}`);
  expect(outcome).toMatchObject({ type: "refused", failure: { code: "invalid_key" } });
});
