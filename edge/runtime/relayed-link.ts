/**
 * A called function's way to the models: over the link of the program's root, by RPC. The root stores every frame, so after any
 * break the call is simply asked for again from the last frame received.
 */
import { failure } from "../../schema/core/errors.ts";
import { fromNdjson } from "../../sdk/guest/ndjson.ts";
import type { Env } from "../env.ts";
import type { GatewayCall, GatewayFrame } from "../gateway-client-call.ts";
import type { HostAddress, ModelLink } from "./execution.ts";
import { hostAt } from "./execution-host.ts";
import type { Semaphore } from "./semaphore.ts";

/** Breaks in a row without a frame between them; then the call ends with `gateway_unavailable`. */
const RELAY_ATTEMPTS_MAX = 5;

export function relayedLink(options: { env: Env; root: HostAddress; program: string; connections: Semaphore }): ModelLink {
  const { env, root, program, connections } = options;
  return {
    async call(request: GatewayCall, onFrame: (frame: GatewayFrame) => void | Promise<void>): Promise<void> {
      let n = request.from;
      for (let attempt = 0; attempt < RELAY_ATTEMPTS_MAX; attempt++) {
        try {
          const stream = await connections.run(() => hostAt(env, root).relay(program, { ...request, from: n }));
          for await (const frame of fromNdjson<GatewayFrame>(stream)) {
            if (!("n" in frame) || frame.n <= n) continue;
            n = frame.n;
            attempt = 0;
            await onFrame(frame);
            if (frame.type !== "token") return;
          }
        } catch {
          // The root's object went away; it comes back with the next request.
        }
      }
      const error = failure("gateway_unavailable", "The run that owns the link to the gateway could not be reached.");
      await onFrame({ type: "refused", call: request.call, n: n + 1, error, emitted: n });
    },
    cancel(call: string, reason: string): void {
      void hostAt(env, root)
        .cancelRelay(program, call, reason)
        .catch(() => undefined); // a root that is gone has nothing to cancel
    },
  };
}
