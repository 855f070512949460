/**
 * The planner: replays a workload against configurations of a cluster and says which reaches the SLO, on how few nodes, at what
 * latency and cost, and at which load it breaks.
 *
 *  1. Nodes. Where the file gives a range: the fewest nodes on which some configuration meets the target, by bisection. The one most
 *     like the last that met it is tried first, and the first that does ends the question for that number.
 *  2. Configuration. On those nodes every configuration is tried at the trace's own load. Of those that meet the target the one with
 *     the highest goodput is chosen, ties by name. A configuration is bisected only if it holds at a load above the best so far:
 *     otherwise it cannot win, and has no goodput in the answer (`goodput: all` bisects every one).
 *  3. Figures. The chosen one is replayed once more to its end, and once at the load at which it breaks, to say how.
 *
 * Deterministic: same trace, file, options and seed, same answer.
 */
import type { Candidate, Refused } from "./candidates.ts";
import { candidatesOf } from "./candidates.ts";
import type { Chosen, Goodput, Plan, Tried, Trial } from "./answer.ts";
import { PLAN_FORMAT, PLAN_VERSION } from "./answer.ts";
import type { ClusterFile } from "./cluster-file.ts";
import { type Measured, measure, type MeasureOptions, type Runner } from "./measure.ts";
import { notesOf } from "./notes.ts";
import { mustPolicies, nameOf } from "./policy-sets.ts";
import { fewest, highestLoad } from "./search.ts";
import { cdfOf, loadOf } from "./series.ts";
import { type Slo, tpotOf, ttftOf } from "./slo.ts";
import type { Workload } from "./workload.ts";

export type PlanOptions = {
  readonly workload: Workload;
  readonly cluster: ClusterFile;
  readonly slo: Slo;
  readonly seed: number;
  /** `best`: of the winner, and of those that had to be bisected to find it; `all`; `none`: only the trace's own load. */
  readonly goodput: "best" | "all" | "none";
  /** What the winner has most of. */
  readonly objective: "goodput" | "goodput_per_gpu";
  /** Of a bisection on load. */
  readonly tolerance: number;
  readonly warm_up_share: number;
  /** Fewer counted calls are said to be too few. */
  readonly calls_min: number;
  readonly patience_us: number;
  readonly until_us: number | null;
};

export type Progress = {
  readonly run: number;
  readonly configuration: string;
  readonly multiple: number;
  readonly calls_ended: number;
  readonly calls: number;
  readonly virtual_s: number;
};

export function plan(options: PlanOptions, runner: Runner, progress: (p: Progress) => void, stop: () => boolean): Plan {
  return new Planner(options, runner, progress, stop).answer();
}

type Entry = { readonly candidate: Candidate; readonly trials: Map<number, Trial>; goodput: Goodput | null };

class Planner {
  readonly #options: PlanOptions;
  readonly #measuring: MeasureOptions;
  readonly #progress: (p: Progress) => void;
  readonly #stop: () => boolean;
  readonly #entries = new Map<string, Entry>();
  readonly #refused = new Map<string, Refused>();
  #runs = 0;
  #stopped = false;

  constructor(options: PlanOptions, runner: Runner, progress: (p: Progress) => void, stop: () => boolean) {
    this.#options = options;
    this.#progress = progress;
    this.#stop = stop;
    const { workload, slo, seed, warm_up_share, patience_us, until_us } = options;
    const policies = (candidate: Candidate) => mustPolicies(candidate.policies, { cluster: candidate.cluster, slo, seed });
    const price = { per_gpu_hour: options.cluster.gpu.price_per_hour };
    this.#measuring = { runner, workload, policies, slo, price, seed, warm_up_share, patience_us, until_us };
  }

  answer(): Plan {
    const nodes = this.#nodes();
    const best = nodes === null ? this.#nearest() : (this.#best(nodes) ?? this.#nearest());
    const chosen = best === null ? null : this.#choose(best);
    const { workload, cluster, slo, seed } = this.#options;
    const verdict = chosen?.met ? "met" : this.#stopped || chosen === null ? "unknown" : "not_met";
    return {
      format: PLAN_FORMAT,
      version: PLAN_VERSION,
      complete: !this.#stopped,
      seed,
      workload: {
        name: workload.name,
        kind: workload.kind,
        calls: workload.calls(1),
        calls_per_s: workload.calls_per_s,
        prompt_tokens_mean: workload.prompt_tokens_mean,
        output_tokens_mean: workload.output_tokens_mean,
      },
      slo,
      cluster: { name: cluster.name, model: cluster.model, currency: cluster.gpu.currency, price_per_gpu_hour: cluster.gpu.price_per_hour },
      verdict,
      chosen,
      configurations: [...this.#entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => tried(entry)),
      refused: [...this.#refused.values()],
      notes: notesOf(this.#options, chosen),
    };
  }

  /** Null: even the most nodes do not do, or it is not known. */
  #nodes(): number | null {
    const { nodes } = this.#options.cluster;
    if (typeof nodes === "number") return nodes;
    let last: Candidate | null = null;
    const holds = (n: number): boolean => {
      const order = this.#candidates(n).toSorted((a, b) => unlike(a, last) - unlike(b, last));
      const found = order.find((candidate) => this.#trial(candidate, 1)?.met);
      last = found ?? last;
      return found !== undefined;
    };
    return fewest(nodes.min, nodes.max, holds, () => this.#stopped);
  }

  #best(nodes: number): Candidate | null {
    const candidates = this.#candidates(nodes);
    const meeting = candidates.filter((candidate) => this.#trial(candidate, 1)?.met);
    // One that does not hold the trace's own load cannot have the highest goodput while another holds it; but it can have it per GPU.
    const all = this.#options.goodput === "all" || this.#options.objective === "goodput_per_gpu" || meeting.length === 0;
    const rivals = all ? candidates : meeting;
    if (this.#options.goodput === "none") return meeting[0] ?? null;
    let best: { candidate: Candidate; value: number } | null = null;
    for (const candidate of rivals) {
      if (this.#stopped) break;
      const per = this.#options.objective === "goodput" ? 1 : candidate.gpus_used;
      const to_beat: number = best === null ? 0 : best.value * per;
      const probe = (multiple: number): boolean => this.#trial(candidate, multiple)?.met ?? false;
      const beatable = to_beat === 0 || this.#options.goodput === "all" || probe(to_beat * (1 + this.#options.tolerance));
      if (!beatable) continue;
      const goodput = this.#goodput(candidate, probe, to_beat);
      const value = (goodput?.multiple ?? 0) / per;
      if (goodput !== null && (best === null || value > best.value)) best = { candidate, value };
    }
    return best?.candidate ?? meeting[0] ?? null;
  }

  #goodput(candidate: Candidate, probe: (multiple: number) => boolean, known: number): Goodput | null {
    const { tolerance, workload } = this.#options;
    const start = known === 0 || this.#options.goodput === "all" ? 1 : known * (1 + tolerance);
    const { holds, fails } = highestLoad(probe, start, { tolerance, level: (m) => workload.level(m), stopped: () => this.#stopped });
    const entry = this.#entries.get(keyOf(candidate));
    if (holds === null || entry === undefined) return null;
    const calls_per_s =
      workload.calls_per_s === null ? (entry.trials.get(workload.level(holds))?.figures.calls_per_s ?? 0) : workload.calls_per_s * holds;
    entry.goodput = {
      multiple: holds,
      fails_at: fails,
      calls_per_s,
      calls_per_s_per_gpu: calls_per_s / candidate.gpus,
      calls_per_s_per_gpu_used: calls_per_s / candidate.gpus_used,
    };
    return entry.goodput;
  }

  /** When none meets the target: the one that comes nearest at the trace's own load, ties by name. */
  #nearest(): Candidate | null {
    const at_own_load = [...this.#entries.values()].flatMap(({ candidate, trials }) => {
      const trial = trials.get(this.#options.workload.level(1));
      return trial === undefined || trial.figures.calls === 0 ? [] : [{ candidate, trial }];
    });
    at_own_load.sort(
      (a, b) =>
        Number(b.trial.met) - Number(a.trial.met) ||
        a.candidate.nodes * Number(a.trial.met) - b.candidate.nodes * Number(b.trial.met) ||
        b.trial.figures.attainment * b.trial.figures.calls - a.trial.figures.attainment * a.trial.figures.calls ||
        (keyOf(a.candidate) < keyOf(b.candidate) ? -1 : 1),
    );
    return at_own_load[0]?.candidate ?? null;
  }

  /** Once more, to the end, with what the plots need. Interrupted, it still runs as far as the first virtual second. */
  #choose(candidate: Candidate): Chosen | null {
    const measured = this.#measure(candidate, 1, true);
    const entry = this.#entries.get(keyOf(candidate));
    const known = entry?.trials.get(this.#options.workload.level(1));
    const finished = measured.ended === "complete";
    const breaks_at = entry?.goodput?.fails_at ?? null;
    if (breaks_at !== null && !this.#stopped) {
      const { ended, met, figures } = this.#measure(candidate, breaks_at, true);
      if (ended === "complete") entry?.trials.set(this.#options.workload.level(breaks_at), { multiple: breaks_at, ended, met, figures });
    }
    const figures = finished ? measured.figures : (known?.figures ?? measured.figures);
    const done = measured.counted.filter((times) => times.outcome.type === "done");
    return {
      configuration: candidate.name,
      nodes: candidate.nodes,
      gpus: candidate.gpus,
      gpus_used: candidate.gpus_used,
      policies: nameOf(candidate.policies),
      cluster: candidate.cluster,
      figures,
      met: finished ? measured.met : (known?.met ?? false),
      goodput: entry?.goodput ?? null,
      ttft_us_cdf: cdfOf(done.map(ttftOf).filter((us) => us !== null)),
      tpot_us_cdf: cdfOf(done.map(tpotOf).filter((us) => us !== null)),
      load: loadOf(measured.result.calls, measured.result.virtual),
    };
  }

  /** Null: interrupted. */
  #trial(candidate: Candidate, multiple: number): Trial | null {
    const level = this.#options.workload.level(multiple);
    const entry = this.#entry(candidate);
    const known = entry.trials.get(level);
    if (known !== undefined) return known;
    if (this.#stopped || this.#stop()) {
      this.#stopped = true;
      return null;
    }
    const { ended, met, figures } = this.#measure(candidate, multiple, false);
    const trial: Trial = { multiple, ended, met, figures };
    entry.trials.set(level, trial);
    return ended === "stopped" ? null : trial;
  }

  #measure(candidate: Candidate, multiple: number, to_the_end: boolean): Measured {
    const run = ++this.#runs;
    const configuration = `${candidate.nodes} nodes: ${candidate.name}`;
    const watch = {
      progress: (calls_ended: number, calls: number, virtual_us: number) =>
        this.#progress({ run, configuration, multiple, calls_ended, calls, virtual_s: virtual_us / 1e6 }),
      stop: () => (this.#stopped ||= this.#stop()),
    };
    return measure(candidate, multiple, this.#measuring, watch, to_the_end);
  }

  #candidates(nodes: number): readonly Candidate[] {
    const { candidates, refused } = candidatesOf(this.#options.cluster, nodes);
    for (const each of refused) this.#refused.set(each.name, each);
    return candidates;
  }

  #entry(candidate: Candidate): Entry {
    const key = keyOf(candidate);
    const entry = this.#entries.get(key) ?? { candidate, trials: new Map(), goodput: null };
    this.#entries.set(key, entry);
    return entry;
  }
}

const keyOf = (candidate: Candidate): string => `${candidate.nodes.toString().padStart(6, "0")} ${candidate.name}`;

/** How far two configurations' shares of prefill GPUs are apart; other shapes or policies are further. */
function unlike(candidate: Candidate, other: Candidate | null): number {
  if (other === null) return 0;
  const shape = (c: Candidate) => c.cluster.pools.map((pool) => `${pool.role}${pool.tp}.${pool.pp}`).join(" ") + nameOf(c.policies);
  const share = (c: Candidate) => {
    const gpus = c.cluster.pools.filter((pool) => pool.role === "prefill").reduce((sum, p) => sum + p.instances * p.tp * p.pp, 0);
    return gpus / c.gpus_used;
  };
  return (shape(candidate) === shape(other) ? 0 : 10) + Math.abs(share(candidate) - share(other));
}

function tried({ candidate, trials, goodput }: Entry): Tried {
  const { name, nodes, gpus, gpus_used, policies } = candidate;
  const sorted = [...trials.values()].sort((a, b) => a.multiple - b.multiple);
  return { configuration: name, nodes, gpus, gpus_used, policies: nameOf(policies), trials: sorted, goodput };
}
