/** How a plan was measured, and what to doubt in it: said with every answer. */
import type { Chosen } from "./answer.ts";
import type { PlanOptions } from "./plan.ts";

export function notesOf(options: PlanOptions, chosen: Chosen | null): string[] {
  const { workload, warm_up_share, calls_min, tolerance, patience_us } = options;
  const notes = [
    `The first ${percent(warm_up_share)} of calls warm the cluster up and are not counted.`,
    `A call that is refused, fails or is not answered within ${patience_us / 1e6} s misses its SLO.`,
    "Latencies are of calls that were answered, as clients see them, network included.",
  ];
  if (options.goodput !== "none") notes.push(`Loads were bisected to ${percent(tolerance)}.`);
  if (workload.kind === "closed") notes.push("Closed loop: a slower cluster is asked less. Load is in users, not in calls a second.");
  const context = Math.min(...(chosen?.cluster.pools.map((pool) => pool.context_tokens) ?? []));
  const cut = chosen === null ? 0 : workload.longerThan(context);
  if (cut > 0)
    notes.push(
      `${cut} calls are longer than the context of ${context} tokens: their prompts were cut to fit and find nothing cached. Set context_tokens if the model takes more.`,
    );
  const counted = chosen?.figures.calls ?? 0;
  if (chosen !== null && counted < calls_min)
    notes.push(`Only ${counted} calls were counted; below ${calls_min} the p99 and the load at which it breaks are guesses.`);
  return notes;
}

const percent = (share: number): string => `${Number((share * 100).toFixed(2))} %`;
