/** The same calls, live and virtual, side by side: by kind of time, by stage of the way to the first token, and how they were placed. */
import type { CallTimes } from "../../../gpu-gateway/simulator/types.ts";
import { median, percentile } from "../../lib/figures.ts";
import type { Heard } from "./client.ts";
import type { Recorded, ToldCall } from "./recorded.ts";
import type { Virtual } from "./virtual.ts";

export type Row = {
  readonly name: string;
  readonly live_p50_ms: number;
  readonly virtual_p50_ms: number;
  readonly p50_ratio: number;
  readonly p95_ratio: number;
  /** Of single calls: how far virtual is from live, either way. */
  readonly off_p50_ms: number;
  readonly off_p95_ms: number;
};
export type Comparison = {
  readonly rows: readonly Row[];
  /** Of all calls: the scheduler was told the same kinds of events in the same order. */
  readonly told_alike: number;
  /** On the corresponding instances; they correspond in the order of their ids. */
  readonly placed_alike: number;
};

type Pair = { readonly live: Heard; readonly virtual: CallTimes; readonly told: ToldCall; readonly told_virtually: ToldCall };
type Time = readonly [name: string, live: (pair: Pair) => number, virtual: (pair: Pair) => number];

/** As a client has them. */
const TIMES: readonly Time[] = [
  ["TTFT", ({ live }) => live.ttft_ms, ({ virtual }) => since(virtual, virtual.first_token)],
  [
    "TPOT",
    ({ live: { last_ms, ttft_ms, tokens } }) => (last_ms - ttft_ms) / Math.max(1, tokens - 1),
    ({ virtual: v }) => (since(v, v.last_token) - since(v, v.first_token)) / Math.max(1, v.output_tokens - 1),
  ],
  ["end to end", ({ live }) => live.e2e_ms, ({ virtual }) => since(virtual, virtual.ended)],
];
/** As the scheduler is told of them. */
const STAGES: readonly Time[] = [
  stage("arrival to prefill's end", "call_arrived", "prefill leg_finished"),
  stage("prefill's end to decode's acceptance", "prefill leg_finished", "decode leg_accepted"),
  stage("decode's acceptance to first token", "decode leg_accepted", "decode leg_first_token"),
  stage("first token to end", "decode leg_first_token", "decode leg_finished"),
];

export function compare(recorded: Recorded, heard: readonly Heard[], { result, told, instances }: Virtual): Comparison {
  const virtual = new Map(result.calls.map((times) => [times.call.call_id as string, times]));
  const pairs = heard.map((live): Pair => {
    const [times, of_live, of_virtual] = [virtual.get(live.call_id), recorded.calls.get(live.call_id), told.get(live.call_id)];
    if (times === undefined || of_live === undefined || of_virtual === undefined || times.outcome.type !== "done")
      throw new Error(`call ${live.call_id} was not served in both`);
    return { live, virtual: times, told: of_live, told_virtually: of_virtual };
  });
  const share = (alike: (pair: Pair) => boolean) => pairs.filter(alike).length / pairs.length;
  const [there, here] = [numbered(recorded.instances), numbered(instances)];
  return {
    rows: [...TIMES, ...STAGES].map((time) => rowOf(time, pairs)),
    told_alike: share(({ told: a, told_virtually: b }) => a.kinds.join() === b.kinds.join()),
    placed_alike: share(
      ({ told: a, told_virtually: b }) => a.placed.map((id) => there.get(id)).join() === b.placed.map((id) => here.get(id)).join(),
    ),
  };
}

function rowOf([name, of_live, of_virtual]: Time, pairs: readonly Pair[]): Row {
  const [live, virtual] = [pairs.map(of_live), pairs.map(of_virtual)];
  const off = pairs.map((pair) => Math.abs(of_virtual(pair) - of_live(pair)));
  return {
    name,
    live_p50_ms: median(live),
    virtual_p50_ms: median(virtual),
    p50_ratio: median(virtual) / median(live),
    p95_ratio: percentile(virtual, 95) / percentile(live, 95),
    off_p50_ms: median(off),
    off_p95_ms: percentile(off, 95),
  };
}

function stage(name: string, from: string, to: string): Time {
  const took = ({ at }: ToldCall) => ((at.get(to) ?? Number.NaN) - (at.get(from) ?? Number.NaN)) / 1_000;
  return [name, ({ told }) => took(told), ({ told_virtually }) => took(told_virtually)];
}

function since({ arrived }: CallTimes, at: number | null): number {
  return ((at ?? Number.NaN) - arrived) / 1_000;
}

/** Each instance's role and its number in it. */
function numbered(instances: Recorded["instances"]): ReadonlyMap<string, string> {
  const counts = new Map<string, number>();
  const names = new Map<string, string>();
  for (const { instance_id, role } of instances.toSorted((a, b) => (a.instance_id < b.instance_id ? -1 : 1))) {
    const number = (counts.get(role) ?? 0) + 1;
    counts.set(role, number);
    names.set(instance_id, `${role} ${number}`);
  }
  return names;
}
