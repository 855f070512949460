/**
 * Who asks? Either the edge, with a short token it signed for a key it has verified (schema/core/wire/token.ts), or a client
 * with an `mr_` key of its own. What was found valid is remembered for a moment; what was revoked is remembered longer than
 * any token lives, so that a token signed before the revocation does not outlive it.
 */
import { hash } from "node:crypto";
import { jwtVerify } from "jose";
import { failure, type ErrorCode, type Failure } from "../../schema/core/errors.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER, TOKEN_TTL_S, tokenClaims, type Scope, type TokenClaims } from "../../schema/core/wire/token.ts";
import { KEY_CACHE_MAX, KEY_CACHE_MS, REVOKED_REMEMBERED_MAX, TOKEN_SKEW_S } from "./limits.ts";

export type Credential = { readonly kind: "token" | "key"; readonly claims: TokenClaims };
export type AuthOutcome =
  | { readonly type: "ok"; readonly credential: Credential }
  | { readonly type: "refused"; readonly failure: Failure };

export type KeyFound = { readonly type: "valid"; readonly claims: TokenClaims } | { readonly type: "unknown" | "malformed" | "revoked" };

/** Where keys are looked up. */
export interface KeyStore {
  find(text: string): Promise<KeyFound>;
  /** Keys revoked or expired within the last minutes. */
  revokedLately(): Promise<readonly string[]>;
}

type Remembered = { readonly credential: Credential; readonly until_ms: number };

export class Authenticator {
  readonly #keys: KeyStore;
  readonly #secret: Uint8Array;
  /** By the SHA-256 of the text: the text itself is not kept. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #revoked = new Set<string>();

  constructor(keys: KeyStore, cell_secret: string) {
    this.#keys = keys;
    this.#secret = new TextEncoder().encode(cell_secret);
  }

  /** Answers at once for what is remembered: the hot path has no promise in it. */
  authenticate(authorization: string | undefined): AuthOutcome | Promise<AuthOutcome> {
    if (authorization === undefined || authorization === "") return refused("missing_key");
    const bearer = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
    if (bearer === undefined) return refused("invalid_key", "the Authorization header is not `Bearer <key>`");
    const digest = hash("sha256", bearer, "base64");
    const known = this.#remembered.get(digest);
    if (known !== undefined && known.until_ms > Date.now()) return this.#unlessRevoked(known.credential);
    return bearer.startsWith("mr_") ? this.#byKey(bearer, digest) : this.#byToken(bearer, digest);
  }

  /** Returns those that were not known as revoked before. */
  revoke(keys: readonly string[]): readonly string[] {
    const fresh = keys.filter((key) => !this.#revoked.has(key));
    for (const key of fresh) this.#revoked.add(key);
    for (const oldest of this.#revoked) {
      if (this.#revoked.size <= REVOKED_REMEMBERED_MAX) break;
      this.#revoked.delete(oldest);
    }
    return fresh;
  }

  async #byKey(text: string, digest: string): Promise<AuthOutcome> {
    let found: KeyFound;
    try {
      found = await this.#keys.find(text);
    } catch {
      return refused("database_unavailable", "the key cannot be looked up now");
    }
    if (found.type === "revoked") return refused("revoked_key");
    if (found.type !== "valid") return refused("invalid_key");
    return this.#remember(digest, { kind: "key", claims: found.claims }, Date.now() + KEY_CACHE_MS);
  }

  async #byToken(text: string, digest: string): Promise<AuthOutcome> {
    try {
      const { payload } = await jwtVerify(text, this.#secret, {
        issuer: TOKEN_ISSUER,
        audience: TOKEN_AUDIENCE,
        algorithms: ["HS256"],
        requiredClaims: ["exp"],
      });
      const exp_s = payload.exp ?? 0;
      // Revocations are remembered for the life of a token: one that lived longer would outlive them.
      if (exp_s > Date.now() / 1_000 + TOKEN_TTL_S + TOKEN_SKEW_S) return refused("invalid_key", "the token lives too long");
      const claims = tokenClaims.parse(payload);
      return this.#remember(digest, { kind: "token", claims }, exp_s * 1_000);
    } catch {
      return refused("invalid_key", "neither a key nor a token of this cell");
    }
  }

  #remember(digest: string, credential: Credential, until_ms: number): AuthOutcome {
    this.#remembered.delete(digest);
    this.#remembered.set(digest, { credential, until_ms });
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= KEY_CACHE_MAX) break;
      this.#remembered.delete(oldest);
    }
    return this.#unlessRevoked(credential);
  }

  #unlessRevoked(credential: Credential): AuthOutcome {
    return this.#revoked.has(credential.claims.key) ? refused("revoked_key") : { type: "ok", credential };
  }
}

export function lacksScope(credential: Credential, ...any_of: readonly Scope[]): Failure | null {
  if (any_of.some((scope) => credential.claims.scopes.includes(scope))) return null;
  return failure("insufficient_scope", `this needs the scope ${any_of.join(" or ")}`);
}

const refused = (code: ErrorCode, detail?: string): AuthOutcome => ({ type: "refused", failure: failure(code, detail) });
