/** Which memory a guest has: its session's, or its function's where there is no session. The guest has no say in it (I10). */
import { hashParts } from "../../schema/core/hash.ts";
import type { GuestRequest } from "../../schema/core/wire/guest.ts";
import type { Env } from "../env.ts";
import type { ExecutionIdentity } from "./execution.ts";
import type { Result } from "./result.ts";

/** A guest's wish without its place in the run. */
export type MemoryWish = DistributiveOmit<Extract<GuestRequest, { op: `memory.${string}` }>, "path" | "agent">;
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

export type MemoryObject = { perform(wish: MemoryWish): Promise<Result<unknown>> };

export function memoryFor(env: Env, identity: ExecutionIdentity): MemoryObject {
  const { tenant, project, session } = identity;
  const scope = session === undefined ? ["function", identity.function] : ["session", session];
  return env.MEMORY.getByName(hashParts("memory", tenant, project, ...scope));
}
