/** The answer in a sentence or two, for the table and the page alike. */
import type { Plan, Trial, Tried } from "../../gpu-gateway/simulator/planner/answer.ts";
import { ms, percent, plural, rate, times } from "./format.ts";

export const sloText = ({ slo }: Plan): string =>
  `first token within ${ms(slo.ttft_us)}, then ${ms(slo.tpot_us)} a token, for ${percent(slo.attainment)} of calls`;

export function verdictText(plan: Plan): string {
  const { chosen } = plan;
  if (chosen === null) return plan.complete ? "No configuration could be tried." : "Interrupted before anything was known.";
  const on = `${plural(chosen.nodes, "node")} as ${chosen.configuration}`;
  if (plan.verdict === "met") return `The SLO is met on ${on}: ${percent(chosen.figures.attainment)} of calls.`;
  if (plan.verdict === "unknown") return `Interrupted. Nearest so far, ${on}: ${percent(chosen.figures.attainment)} of calls.`;
  return `No configuration tried meets the SLO. Nearest, ${on}: ${percent(chosen.figures.attainment)} of calls.`;
}

export function breaksText(plan: Plan): string | null {
  const goodput = plan.chosen?.goodput;
  if (goodput === null || goodput === undefined) return null;
  const figures = `${rate(goodput.calls_per_s)} calls/s, ${rate(goodput.calls_per_s_per_gpu)} a GPU (${rate(goodput.calls_per_s_per_gpu_used)} a GPU in use)`;
  const load = plan.workload.kind === "open" ? "the trace's load" : "the users";
  if (goodput.fails_at === null) return `It holds at every load tried, up to ${times(goodput.multiple)} ${load}: ${figures}.`;
  return `It holds up to ${times(goodput.multiple)} ${load}, ${figures}, and breaks at ${times(goodput.fails_at)}.`;
}

/** The trial at the trace's own load, or the nearest to it. */
export function ownLoad(tried: Tried): Trial | undefined {
  return tried.trials.toSorted((a, b) => Math.abs(Math.log(a.multiple)) - Math.abs(Math.log(b.multiple)))[0];
}
