/**
 * The instance with the least to do, whatever it has cached: for the prompt the one whose prefills in flight are done soonest, then
 * with the fewest of their tokens; for the answer the one least full.
 */
import type { Routing } from "../policies.ts";
import { choosing, type ChoosingOptions, least } from "./choosing.ts";
import { decodeLoad } from "./scorers.ts";

export function loadBalance(options: ChoosingOptions): Routing {
  return choosing(options, {
    first(_call, among, _all, now) {
      const soonest = least(among, (view) => Math.max(0, view.prefill_due - now));
      const wait = Math.max(0, soonest.prefill_due - now);
      const equals = among.filter((view) => Math.max(0, view.prefill_due - now) === wait);
      return { view: least(equals, (view) => view.prefill_tokens), fetched: null };
    },
    decode: (call, among) => least(among, (view) => decodeLoad(view, call, "decode")),
  });
}
