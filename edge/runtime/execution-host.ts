/** Finds the object behind an address. Only our own entry points and objects call these methods; no route does. */
import type { Env } from "../env.ts";
import type { ExecutionHost, HostAddress } from "./execution.ts";

export function hostAt(env: Env, address: HostAddress): ExecutionHost {
  const namespace = (address.binding === "RUNS" ? env.RUNS : env.SESSIONS) as unknown as DurableObjectNamespace;
  return namespace.get(namespace.idFromString(address.id)) as unknown as ExecutionHost;
}
