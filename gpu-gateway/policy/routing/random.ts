/** Any instance that can take the call, by chance: the baseline that shows what choosing is worth. */
import type { InstanceView, Routing } from "../policies.ts";
import { seeded } from "../seeded.ts";
import { choosing, type ChoosingOptions } from "./choosing.ts";

export function randomRouting(options: ChoosingOptions & { readonly seed: number }): Routing {
  const chance = seeded(options.seed);
  const any = (among: readonly InstanceView[]): InstanceView => {
    const view = among[chance.below(among.length)];
    if (view === undefined) throw new RangeError("nothing to choose from");
    return view;
  };
  return choosing(options, {
    first: (_call, among) => ({ view: any(among), fetched: null }),
    decode: (_call, among) => any(among),
  });
}
