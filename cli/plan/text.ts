/** A plan as a table for people. */
import type { Chosen, Plan } from "../../gpu-gateway/simulator/planner/answer.ts";
import type { Spread } from "../../gpu-gateway/simulator/planner/quantiles.ts";
import { grouped, table } from "../output.ts";
import { money, ms, percent, plural, rate, times } from "./format.ts";
import { breaksText, ownLoad, sloText, verdictText } from "./verdict.ts";

export function planText(plan: Plan): string {
  const { workload, cluster, chosen } = plan;
  const load = workload.calls_per_s === null ? "closed loop" : `${rate(workload.calls_per_s)} calls/s`;
  const lines = [
    `${workload.name}: ${grouped(String(workload.calls))} calls, ${load}, on average ${workload.prompt_tokens_mean.toFixed(0)} tokens in, ${workload.output_tokens_mean.toFixed(0)} out`,
    `${cluster.name}, ${cluster.model}: ${sloText(plan)}`,
    "",
    verdictText(plan),
    ...[breaksText(plan)].filter((line) => line !== null),
    ...(chosen === null ? [] : ["", latencyTable(chosen), "", roleTable(chosen), "", costText(plan, chosen)]),
    "",
    configurationTable(plan),
    ...plan.refused.map(({ name, why }) => `${name} was not tried: ${why}`),
    "",
    ...plan.notes.map((note) => `- ${note}`),
  ];
  return lines.join("\n");
}

const right = true;

function latencyTable({ figures }: Chosen): string {
  const row = (name: string, spread: Spread | null): string[] => [
    name,
    ...(["p50", "p90", "p99", "mean"] as const).map((which) => ms(spread?.[which])),
  ];
  const columns = ["", "p50", "p90", "p99", "mean"].map((title) => ({ title, right: title !== "" }));
  const rows = [row("time to first token", figures.ttft_us), row("time per output token", figures.tpot_us)];
  if (figures.transfer_us !== null) rows.push(row("KV transfer", figures.transfer_us));
  return table(columns, rows);
}

function roleTable({ figures }: Chosen): string {
  const columns = [
    { title: "role" },
    { title: "instances", right },
    { title: "GPUs", right },
    { title: "computing", right },
    { title: "least", right },
    { title: "most", right },
    { title: "preemptions", right },
  ];
  const rows = figures.roles.map((role) => [
    role.role,
    String(role.instances),
    String(role.gpus),
    percent(role.busy),
    percent(role.busy_least),
    percent(role.busy_most),
    String(role.preemptions),
  ]);
  return table(columns, rows);
}

function costText({ cluster }: Plan, { figures }: Chosen): string {
  const { currency } = cluster;
  return [
    `${money(figures.cost_per_1000_calls, currency)} per 1,000 calls; ${money(figures.cost_per_hour, currency)} an hour, of which ${money(figures.idle_cost_per_hour, currency)} (${percent(figures.idle_share)}) idle`,
    `${rate(figures.calls_per_s)} calls/s and ${rate(figures.output_tokens_per_s)} output tokens/s over ${figures.duration_s.toFixed(0)} s; ${percent(figures.cached_share)} of prompt tokens were cached`,
    `${plural(figures.calls, "call")} counted: ${figures.done} answered, ${figures.refused_or_shed} refused or shed, ${figures.failed} failed`,
  ].join("\n");
}

function configurationTable(plan: Plan): string {
  const columns = [
    { title: "nodes", right },
    { title: "configuration" },
    { title: "load", right },
    { title: "attained", right },
    { title: "TTFT p90", right },
    { title: "TPOT p90", right },
    { title: `${plan.cluster.currency}/1,000`, right },
    { title: "holds to", right },
    { title: "calls/s/GPU", right },
  ];
  const rows = plan.configurations.map((tried) => {
    const trial = ownLoad(tried);
    const cut = trial !== undefined && trial.ended !== "complete";
    const whole = (text: string): string => (cut ? "" : text);
    return [
      String(tried.nodes),
      tried.configuration,
      trial === undefined ? "" : times(trial.multiple),
      trial === undefined
        ? "interrupted"
        : cut
          ? trial.ended === "hopeless"
            ? "out of reach"
            : "interrupted"
          : percent(trial.figures.attainment),
      whole(ms(trial?.figures.ttft_us?.p90)),
      whole(ms(trial?.figures.tpot_us?.p90)),
      whole(trial?.figures.cost_per_1000_calls?.toFixed(3) ?? ""),
      tried.goodput === null ? "" : times(tried.goodput.multiple),
      tried.goodput === null ? "" : rate(tried.goodput.calls_per_s_per_gpu_used),
    ];
  });
  return table(columns, rows);
}
