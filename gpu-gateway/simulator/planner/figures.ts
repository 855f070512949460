/** What a run comes to, in figures: latencies, attainment, throughput, utilisation, cost. */
import type { Role } from "../../policy/vocabulary.ts";
import type { CallTimes, InstanceTimes, RunResult } from "../types.ts";
import type { Candidate } from "./candidates.ts";
import { quantileOfCounts, type Spread, spreadOf } from "./quantiles.ts";
import { judge, type Slo, tpotOf, ttftOf } from "./slo.ts";

export type RoleFigures = {
  readonly role: Role;
  readonly instances: number;
  readonly gpus: number;
  /** Of the time of its GPUs: computing. */
  readonly busy: number;
  readonly busy_least: number;
  readonly busy_most: number;
  readonly prefill_tokens: number;
  readonly decode_tokens: number;
  readonly preemptions: number;
};

export type Figures = {
  /** Calls counted: those after the warm-up. */
  readonly calls: number;
  readonly done: number;
  readonly refused_or_shed: number;
  readonly failed: number;
  readonly attainment: number;
  readonly attainment_ttft: number;
  readonly attainment_tpot: number;
  readonly ttft_us: Spread | null;
  readonly tpot_us: Spread | null;
  /** Single gaps between tokens, of all calls. */
  readonly gap_p50_us: number | null;
  readonly gap_p99_us: number | null;
  readonly transfer_us: Spread | null;
  /** Of prompt tokens of calls that were done. */
  readonly cached_share: number;
  /** Of the whole run, warm-up and end included. */
  readonly duration_s: number;
  readonly calls_per_s: number;
  readonly output_tokens_per_s: number;
  readonly roles: readonly RoleFigures[];
  readonly cost_per_1000_calls: number | null;
  readonly cost_per_hour: number;
  /** Of the time of all GPUs, whether or not an instance lies on them: not computing. */
  readonly idle_share: number;
  readonly idle_cost_per_hour: number;
};

export type Price = { readonly per_gpu_hour: number };

export function figuresOf(result: RunResult, counted: readonly CallTimes[], candidate: Candidate, slo: Slo, price: Price): Figures {
  const judged = counted.map((times) => judge(times, slo));
  const share = (of: (j: ReturnType<typeof judge>) => boolean): number =>
    judged.length === 0 ? 0 : judged.filter(of).length / judged.length;
  const done = counted.filter((times) => times.outcome.type === "done");
  const all_done = result.calls.filter((times) => times.outcome.type === "done").length;
  const duration_s = result.virtual / 1e6;
  const cost_per_hour = candidate.gpus * price.per_gpu_hour;
  const computing = result.instances.reduce((sum, instance) => sum + instance.busy * instance.gpus, 0);
  const idle_share = duration_s === 0 ? 1 : Math.max(0, 1 - computing / (candidate.gpus * result.virtual));
  return {
    calls: counted.length,
    done: done.length,
    refused_or_shed: counted.filter((times) => times.outcome.type === "shed").length,
    failed: counted.filter((times) => times.outcome.type === "failed" || times.outcome.type === "cancelled").length,
    attainment: share((j) => j.both),
    attainment_ttft: share((j) => j.ttft),
    attainment_tpot: share((j) => j.tpot),
    ttft_us: spreadOf(done.map(ttftOf).filter((us) => us !== null)),
    tpot_us: spreadOf(done.map(tpotOf).filter((us) => us !== null)),
    gap_p50_us: quantileOfCounts(result.token_gaps, 0.5),
    gap_p99_us: quantileOfCounts(result.token_gaps, 0.99),
    transfer_us: spreadOf(done.map((times) => times.transfer as number | null).filter((us) => us !== null)),
    cached_share: shareOf(
      done,
      (times) => times.cached_tokens,
      (times) => times.call.prompt_tokens,
    ),
    duration_s,
    calls_per_s: duration_s === 0 ? 0 : all_done / duration_s,
    output_tokens_per_s: duration_s === 0 ? 0 : result.output_tokens / duration_s,
    roles: rolesOf(result.instances, result.virtual),
    cost_per_1000_calls: all_done === 0 ? null : ((cost_per_hour * duration_s) / 3_600 / all_done) * 1_000,
    cost_per_hour,
    idle_share,
    idle_cost_per_hour: cost_per_hour * idle_share,
  };
}

function rolesOf(instances: readonly InstanceTimes[], virtual: number): RoleFigures[] {
  return (["prefill", "decode", "both"] as const).flatMap((role) => {
    const of = instances.filter((instance) => instance.role === role);
    if (of.length === 0) return [];
    const busy = of.map((instance) => (virtual === 0 ? 0 : instance.busy / virtual));
    const sum = (what: (instance: InstanceTimes) => number): number => of.reduce((total, instance) => total + what(instance), 0);
    return [
      {
        role,
        instances: of.length,
        gpus: sum((instance) => instance.gpus),
        busy: busy.reduce((total, b) => total + b, 0) / of.length,
        busy_least: Math.min(...busy),
        busy_most: Math.max(...busy),
        prefill_tokens: sum((instance) => instance.prefill_tokens),
        decode_tokens: sum((instance) => instance.decode_tokens),
        preemptions: sum((instance) => instance.preemptions),
      },
    ];
  });
}

function shareOf(calls: readonly CallTimes[], part: (times: CallTimes) => number, whole: (times: CallTimes) => number): number {
  const all = calls.reduce((sum, times) => sum + whole(times), 0);
  return all === 0 ? 0 : calls.reduce((sum, times) => sum + part(times), 0) / all;
}
