/** A plan as one page: nothing is fetched, nothing runs; light or dark as the reader's system says; readable on a phone. */
import type { Chosen, Curve, Plan } from "../../gpu-gateway/simulator/planner/answer.ts";
import { money, ms, percent, rate, times } from "./format.ts";
import { STYLE } from "./style.ts";
import { barPlot, escaped, linePlot, pointPlot, type Point, type Series } from "./svg.ts";
import { breaksText, ownLoad, sloText, verdictText } from "./verdict.ts";

export function planPage(plan: Plan): string {
  const { workload, cluster, chosen } = plan;
  const load = workload.calls_per_s === null ? "closed loop" : `${rate(workload.calls_per_s)} calls/s`;
  const breaks = breaksText(plan);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(`Plan: ${workload.name} on ${cluster.name}`)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header>
<h1>${escaped(cluster.name)}</h1>
<p>${escaped(`${cluster.model} · ${workload.name}: ${workload.calls} calls, ${load}, on average ${workload.prompt_tokens_mean.toFixed(0)} tokens in, ${workload.output_tokens_mean.toFixed(0)} out`)}</p>
<p>${escaped(`Wanted: ${sloText(plan)}.`)}</p>
<p class="verdict ${plan.verdict}"><strong>${{ met: "Met", not_met: "Not met", unknown: "Interrupted" }[plan.verdict]}</strong> ${escaped(verdictText(plan))}${breaks === null ? "" : ` ${escaped(breaks)}`}</p>
</header>
${chosen === null ? "" : chosenPart(plan, chosen)}
<section>
<h2>Configurations tried</h2>
${configurations(plan)}
${plan.refused.map(({ name, why }) => `<p>${escaped(`${name} was not tried: ${why}`)}</p>`).join("\n")}
</section>
<section>
<h2>How this was measured</h2>
<ul>${plan.notes.map((note) => `<li>${escaped(note)}</li>`).join("")}</ul>
<p>Seed ${plan.seed}. Simulated: engines are models of A100s, not machines.</p>
</section>
</main>
</body>
</html>
`;
}

function chosenPart(plan: Plan, chosen: Chosen): string {
  const { figures } = chosen;
  const { currency } = plan.cluster;
  const tile = (name: string, value: string, note: string): string =>
    `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}<small>${escaped(note)}</small></dd></div>`;
  const spread = (s: Chosen["figures"]["ttft_us"]): string => `p50 ${ms(s?.p50)} · p99 ${ms(s?.p99)}`;
  return `<section>
<h2>${escaped(`${chosen.nodes} × ${chosen.gpus / chosen.nodes} GPUs: ${chosen.configuration}`)}</h2>
<dl>
${tile("Time to first token, p90", ms(figures.ttft_us?.p90), spread(figures.ttft_us))}
${tile("Time per output token, p90", ms(figures.tpot_us?.p90), spread(figures.tpot_us))}
${tile("Calls that attain both", percent(figures.attainment), `${figures.done} of ${figures.calls} answered`)}
${tile("Cost per 1,000 calls", money(figures.cost_per_1000_calls, currency), `${money(figures.cost_per_hour, currency)} an hour`)}
${tile("Cost of idle", `${money(figures.idle_cost_per_hour, currency)}/h`, `${percent(figures.idle_share)} of GPU time`)}
${tile("Throughput", `${rate(figures.output_tokens_per_s)} tokens/s`, `${rate(figures.calls_per_s)} calls/s`)}
</dl>
</section>
<section class="plots">
${cdf("ttft", "Time to first token", chosen.ttft_us_cdf, plan.slo.ttft_us, plan.slo.attainment)}
${cdf("tpot", "Time per output token", chosen.tpot_us_cdf, plan.slo.tpot_us, plan.slo.attainment)}
${loadFigure(chosen)}
${tokensFigure(chosen)}
${utilisation(chosen)}
${frontier(plan, chosen)}
</section>`;
}

function figure(
  title: string,
  plot: string,
  note: string,
  data: { readonly head: readonly string[]; readonly rows: readonly (readonly string[])[] },
  series: readonly Series[] = [],
): string {
  const legend =
    series.length < 2
      ? ""
      : `<p class="legend">${series.map((s) => `<span><i class="s${s.colour}"></i>${escaped(s.name)}</span>`).join("")}</p>`;
  return `<figure><figcaption><h3>${escaped(title)}</h3><p>${escaped(note)}</p></figcaption>${legend}${plot}<details><summary>Data</summary>${tableOf(data.head, data.rows)}</details></figure>`;
}

function cdf(id: string, title: string, curve: Curve, limit_us: number, attainment: number): string {
  if (curve.length === 0) return "";
  const p99 = curve.find(([, share]) => share >= 0.99)?.[0] ?? 0;
  const max_us = Math.max(limit_us * 1.3, Math.min(p99 * 1.1, limit_us * 6));
  const unit_us = max_us >= 10e6 ? 1e6 : 1e3;
  const max = max_us / unit_us;
  const beyond = curve.filter(([us]) => us > max_us).length / curve.length;
  const points: (readonly [number, number])[] = [[0, 0], ...curve.map(([us, share]) => [us / unit_us, share] as const)];
  const within = curve.findLast(([us]) => us <= limit_us)?.[1] ?? 0;
  const note = `${percent(within)} of answered calls within ${ms(limit_us)}${beyond > 0 ? `; ${percent(beyond)} lie beyond the right edge` : ""}.`;
  const plot = linePlot({
    id,
    title: `${title}: share of calls by time`,
    description: note,
    x: { label: unit_us === 1e6 ? "seconds" : "milliseconds", max, tick: (v) => String(v) },
    y: { label: "share of calls", max: 1, tick: (v) => `${Math.round(v * 100)} %` },
    series: [{ name: title, colour: 1, points: points.filter(([x]) => x <= max) }],
    marks: [
      { axis: "x", at: limit_us / unit_us, label: `SLO ${ms(limit_us)}` },
      { axis: "y", at: attainment, label: `target ${percent(attainment)}` },
    ],
  });
  const rows = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99].map((q) => [percent(q), ms(curve.find(([, share]) => share >= q - 1e-9)?.[0])]);
  return figure(title, plot, note, { head: ["share of calls", "within"], rows });
}

function loadFigure({ load }: Chosen): string {
  const unit = timeUnit(load);
  const series: Series[] = [
    { name: "being answered", colour: 1, points: load.map((p) => [p.from_s / unit, p.answering] as const) },
    { name: "waiting for a first token", colour: 2, points: load.map((p) => [p.from_s / unit, p.waiting] as const) },
  ];
  const most = Math.max(1, ...load.map((p) => Math.max(p.answering, p.waiting)));
  const note = `Calls in the cluster; at most ${most.toFixed(0)} in either state.`;
  const plot = linePlot({
    id: "load",
    title: "Load over time: calls in the cluster",
    description: note,
    ...overTime(load, "calls", most),
    series,
  });
  return figure(
    "Load over time",
    plot,
    note,
    sampled(load, ["waiting", "answering"], (p) => [p.waiting.toFixed(1), p.answering.toFixed(1)]),
    series,
  );
}

function tokensFigure({ load }: Chosen): string {
  const points = load.map((p) => [p.from_s / timeUnit(load), p.output_tokens_per_s] as const);
  const most = Math.max(1, ...points.map(([, y]) => y));
  const note = `Output tokens a second over the replay; at most ${rate(most)}.`;
  const series: Series[] = [{ name: "output tokens/s", colour: 1, points }];
  const plot = linePlot({
    id: "tokens",
    title: "Output tokens a second over time",
    description: note,
    ...overTime(load, "tokens/s", most),
    series,
    area: true,
  });
  const data = sampled(load, ["tokens/s", "calls arriving/s"], (p) => [p.output_tokens_per_s.toFixed(0), p.arrivals_per_s.toFixed(2)]);
  return figure("Tokens over time", plot, note, data);
}

/** Seconds, or minutes of a long replay: how many seconds one is. */
const timeUnit = (load: Chosen["load"]): number => ((load.at(-1)?.from_s ?? 1) > 600 ? 60 : 1);

function overTime(load: Chosen["load"], label: string, most: number) {
  const unit = timeUnit(load);
  return {
    x: { label: unit === 60 ? "minutes" : "seconds", max: (load.at(-1)?.from_s ?? 1) / unit, tick: String },
    y: { label, max: most * 1.05, tick: (v: number) => (v >= 10_000 ? `${v / 1_000}k` : String(Number(v.toPrecision(3)))) },
  };
}

function sampled(load: Chosen["load"], head: readonly string[], row: (p: Chosen["load"][number]) => string[]) {
  const every = Math.max(1, Math.floor(load.length / 24));
  const rows = load.filter((_, i) => i % every === 0).map((p) => [p.from_s.toFixed(0), ...row(p)]);
  return { head: ["from, s", ...head], rows };
}

function utilisation({ figures, gpus, gpus_used }: Chosen): string {
  const bars = figures.roles.map((role) => ({
    name: `${{ prefill: "Prefill", decode: "Decode", both: "Prefill and decode" }[role.role]}: ${role.instances} on ${role.gpus} GPUs`,
    note: percent(role.busy),
    share: role.busy,
    least: role.busy_least,
    most: role.busy_most,
  }));
  const unused = gpus - gpus_used;
  if (unused > 0) bars.push({ name: `No instance: ${unused} GPUs`, note: percent(0), share: 0, least: 0, most: 0 });
  const note = `Share of the replay in which engines computed; lines reach from the least to the most busy instance.`;
  const plot = barPlot({
    id: "use",
    title: "Utilisation by role",
    description: bars.map((bar) => `${bar.name} ${bar.note}`).join("; "),
    bars,
  });
  return figure("Utilisation by role", plot, note, {
    head: ["role", "computing", "least", "most"],
    rows: bars.map((b) => [b.name, b.note, percent(b.least), percent(b.most)]),
  });
}

function frontier(plan: Plan, chosen: Chosen): string {
  const trials = plan.configurations.flatMap((tried) =>
    tried.trials
      .filter((trial) => trial.ended === "complete" && trial.figures.cost_per_1000_calls !== null)
      .map((trial) => ({ tried, trial, cost: trial.figures.cost_per_1000_calls ?? 0 })),
  );
  const { currency } = plan.cluster;
  const points = trials.map(({ tried, trial, cost }): Point => ({
    x: cost,
    y: trial.figures.attainment,
    met: trial.met,
    chosen: tried.configuration === chosen.configuration && tried.nodes === chosen.nodes,
    label: `${tried.nodes} nodes, ${tried.configuration}, load ${times(trial.multiple)}: ${money(cost, currency)} per 1,000 calls, ${percent(trial.figures.attainment)} attained`,
  }));
  if (points.length === 0) return "";
  const low = Math.max(0, Math.min(plan.slo.attainment, ...points.map((p) => p.y)) - 0.02);
  const note =
    "A point is a replay that ran to its end: blue the chosen configuration at several loads, grey the others; filled where the SLO was met. Left is cheaper.";
  const plot = pointPlot({
    id: "cost",
    title: "Cost frontier: attainment against cost per 1,000 calls",
    description: note,
    x: {
      label: `${currency} per 1,000 calls`,
      max: Math.max(...points.map((p) => p.x)) * 1.08,
      tick: (v) => String(Number(v.toPrecision(3))),
    },
    y: { label: "calls that attain both", min: low, max: 1, tick: (v) => `${Number((v * 100).toFixed(1))} %` },
    points: points.toSorted((a, b) => Number(a.chosen) - Number(b.chosen)),
    marks: [{ axis: "y", at: plan.slo.attainment, label: `target ${percent(plan.slo.attainment)}` }],
  });
  const rows = trials
    .toSorted((a, b) => a.cost - b.cost)
    .map(({ tried, trial, cost }) => [
      String(tried.nodes),
      tried.configuration,
      times(trial.multiple),
      money(cost, currency),
      percent(trial.figures.attainment),
    ]);
  return figure("Cost frontier", plot, note, { head: ["nodes", "configuration", "load", "per 1,000", "attained"], rows });
}

function configurations(plan: Plan): string {
  const rows = plan.configurations.map((tried) => {
    const trial = ownLoad(tried);
    const complete = trial?.ended === "complete";
    return [
      String(tried.nodes),
      tried.configuration,
      trial === undefined ? "" : times(trial.multiple),
      complete ? percent(trial.figures.attainment) : trial?.ended === "hopeless" ? "out of reach" : "interrupted",
      complete ? ms(trial.figures.ttft_us?.p90) : "",
      complete ? ms(trial.figures.tpot_us?.p90) : "",
      complete ? money(trial.figures.cost_per_1000_calls, plan.cluster.currency) : "",
      tried.goodput === null ? "" : times(tried.goodput.multiple),
      tried.goodput === null ? "" : rate(tried.goodput.calls_per_s_per_gpu_used),
    ];
  });
  return tableOf(
    ["nodes", "configuration", "load", "attained", "TTFT p90", "TPOT p90", "per 1,000 calls", "holds to", "calls/s a GPU used"],
    rows,
  );
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[], tag: string): string =>
    `<tr>${cells.map((cell) => `<${tag}${tag === "th" ? ' scope="col"' : ""}>${escaped(cell)}</${tag}>`).join("")}</tr>`;
  return `<div class="wide" tabindex="0" role="region" aria-label="table"><table><thead>${row(head, "th")}</thead><tbody>${rows.map((cells) => row(cells, "td")).join("")}</tbody></table></div>`;
}
