/** Clients that send each call at its own instant, whatever became of those before it. */
import { micros } from "../../../schema/core/time.ts";
import type { Arrival, Clients } from "../types.ts";
import { type CallShape, numbered, simCall } from "./calls.ts";
import { chained, saltOf } from "./prefix-chain.ts";
import type { OpenTrace } from "./trace.ts";

/** At `rate` times the trace's own speed: the same calls, closer together. */
export function openLoop(trace: OpenTrace, rate: number, shape: CallShape): Clients {
  let next = 0;
  return {
    first(): Arrival | null {
      if (next >= trace.calls) return null;
      const nth = next++;
      const call = trace.call(nth);
      const at = micros(call.at_us / rate);
      const id = `call_${numbered(nth)}`;
      const blocks = chained(saltOf(call.tenant), [], call.blocks);
      return { at, sim: simCall({ ...call, id, at, program: call.program ?? id, block_tokens: trace.block_tokens, blocks }, shape) };
    },
    ended: () => [],
  };
}
