import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { mustProfile, prefillPairs, stepUs } from "../engine-model/profile.ts";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { baselinePolicies } from "../policy/defaults.ts";
import { createFold } from "../policy/metering/fold.ts";
import type { FoldOutput } from "../policy/metering/outputs.ts";
import { CELL } from "./records.ts";
import { seeded } from "./traces/random.ts";
import { call, clusterOf, MODEL, pool, run, second, these, type Told } from "./testing.ts";
import type { Arrival, CallTimes, Clients } from "./types.ts";

const profile = mustProfile({ model: MODEL, tp: 1, pp: 1, all_reduce: "nccl", gpus_per_node: 4 });
const PAIR = clusterOf([pool("prefill", 1), pool("decode", 1)]);
const MIXED = clusterOf([pool("prefill", 1), pool("decode", 2, { slots: 8 }), pool("both", 1)]);
const LINK = 500;

/** Bursts of calls of several tenants, some with a beginning in common. */
function bursts(seed: number, calls: number): Arrival[] {
  const random = seeded(seed);
  let at = 0;
  return Array.from({ length: calls }, (_, n) => {
    at += random.next() < 0.5 ? 0 : Math.round(random.next() * 400_000);
    const blocks = [Math.floor(random.next() * 3), 100 + Math.floor(random.next() * 5), 1_000 + n];
    return call(`call_${n}`, at, {
      prompt_tokens: 1 + Math.floor(random.next() * 2_000),
      output_tokens: 1 + Math.floor(random.next() * 300),
      splittable: random.next() < 0.9,
      prefix: { block_tokens: 64, blocks },
    });
  });
}

const ttft = (times: CallTimes | undefined) => Number(times?.first_token) - Number(times?.arrived);
const names = ({ said }: Told) => said.map(({ event }) => event.type);
const digest = (told: Told) =>
  createHash("sha256")
    .update(
      JSON.stringify([told.said, told.records, told.calls, [...told.token_gaps]], (_, value: unknown) =>
        typeof value === "bigint" ? `${value}n` : value,
      ),
    )
    .digest("hex");

describe("one call", () => {
  const prefill_us = stepUs(profile, {
    tokens: 500,
    prefill_pairs: prefillPairs(0, 500),
    decode_context: 0,
    decodes: 0,
    prefill_tokens: 500,
  });
  const token_us = stepUs(profile, { tokens: 1, prefill_pairs: 0, decode_context: 500, decodes: 1, prefill_tokens: 0 });

  test("in two legs: what policy hears, in the live order, each a link's delay after it happened", () => {
    const told = run(PAIR, these([call("c", second(2) + 10_000)]));
    const heard = told.said
      .filter(({ event }) => "leg_id" in event)
      .map(({ event, now }) => [event.type, (event as { leg_id: string }).leg_id.slice(-7), now]);
    const [prefill, decode] = told.said.flatMap(({ effects }) =>
      effects.flatMap((effect) => (effect.type === "start_leg" ? [effect.leg_id.slice(-7)] : [])),
    );
    const sent = second(2) + 10_000 + LINK;
    const prefilled = sent + LINK + prefill_us + LINK;
    const transfer = profile.handover_fixed_us + Math.ceil((500 * profile.kv_bytes_per_token) / profile.handover_bytes_per_us);
    const first = prefilled + LINK + transfer + token_us + LINK;
    expect(heard.slice(0, 5)).toEqual([
      ["leg_accepted", prefill, prefilled],
      ["leg_finished", prefill, prefilled],
      ["leg_accepted", decode, prefilled + 2 * LINK],
      ["kv_released", prefill, first],
      ["leg_first_token", decode, first],
    ]);
    expect(heard.at(-1)?.slice(0, 2)).toEqual(["leg_finished", decode]);
    const progress = heard.filter(([type]) => type === "leg_progress");
    expect(progress.length).toBeGreaterThan(1);
    for (const [, , now] of progress) expect(Number(now) % 50_000).toBe(0);
    expect(told.calls).toMatchObject([
      { arrived: sent - LINK, started: sent, first_token: first + LINK, output_tokens: 20, prefill: "prefill-001", decode: "decode-001" },
    ]);
    expect(told.calls[0]?.transfer).toBe(2 * LINK + transfer);
  });

  test("an engine that tells late is heard late: what it computed, not that it accepted", () => {
    const cluster = clusterOf([pool("both", 1)]);
    const heard = (more: object) =>
      run({ ...cluster, ...more }, these([call("c", second(2))])).said.flatMap(({ event, now }) =>
        event.type === "leg_accepted" || event.type === "leg_first_token" || event.type === "leg_finished" ? [now] : [],
      );
    const [accepted = 0, first = 0, finished = 0] = heard({});
    expect(heard({ notice_delay: micros(700) })).toEqual([accepted, first + 700, finished + 700]);
  });

  test("whole: one leg, accepted before its first token; the second answer finds the first's prompt in the cache", () => {
    const prefix = { block_tokens: 64, blocks: [1, 2, 3, 4, 5, 6, 7] };
    const told = run(clusterOf([pool("both", 1)]), these([call("a", 0, { prefix }), call("b", second(5), { prefix })]));
    expect(
      names(told)
        .filter((name) => name.startsWith("leg_") && name !== "leg_progress")
        .slice(0, 3),
    ).toEqual(["leg_accepted", "leg_first_token", "leg_finished"]);
    expect(told.calls.map(({ cached_tokens }) => cached_tokens)).toEqual([0, 448]);
    expect(told.reads).toMatchObject([{ type: "prefix_hit", computed_by: Array.from({ length: 28 }, () => "ten_a") }]);
    expect(told.calls[0]?.first_token).toBe(4 * LINK + prefill_us);
  });

  test("samples say what the engine holds, a round trip after the second", () => {
    const told = run(PAIR, these([call("c", 0, { output_tokens: 256 })]));
    const samples = told.said.flatMap(({ event, now }) =>
      event.type === "instance_sampled" && event.instance_id === "decode-001" ? [{ event, now }] : [],
    );
    expect(samples[0]).toMatchObject({ now: second(1) + 2 * LINK, event: { running: 1, waiting: 0 } });
    expect(samples[0]?.event.kv_usage_ppm).toBeGreaterThan(0);
  });
});

describe("a prefix that another instance has in its cache", () => {
  const prefix = { block_tokens: 64, blocks: [1, 2, 3, 4, 5, 6, 7] };
  const cluster = clusterOf([pool("prefill", 2), pool("decode", 1)]);
  /** The second call computes its prompt beside the instance that has it, as it was told to. */
  const told = (fetched_tokens: number) =>
    run(cluster, these([call("a", 0, { prefix }), call("b", second(5), { prefix })]), undefined, {
      policies: {
        ...baselinePolicies({
          scope: "fetching",
          targets: cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances })),
        }),
        routing: {
          route: ({ call_id }) => {
            const [first, second_one] = [asId<"instance">("prefill-001"), asId<"instance">("prefill-002")];
            const decode = asId<"instance">("decode-001");
            if (call_id === "a") return { type: "two_legs", prefill: first, decode };
            return { type: "two_legs", prefill: second_one, decode, fetch_prefix: { instance_id: first, tokens: fetched_tokens } };
          },
        },
      },
    });
  test("is fetched, and counts as cached", () => {
    const [first, fetched] = told(448).calls;
    expect([first?.cached_tokens, fetched?.cached_tokens]).toEqual([0, 448]);
    expect(ttft(fetched)).toBeLessThan(ttft(first));
  });
  test("is computed when it is not there after all", () => {
    const [first, computed] = told(480).calls;
    expect(computed?.cached_tokens).toBe(0);
    // But for the pull: decode has the first call's KV in its own cache.
    expect(ttft(first) - ttft(computed)).toBeLessThan(1_000);
  });
});

test("same clients, same bytes: events, effects, records and times (I9); other clients, others", () => {
  const of = (seed: number) => digest(run(MIXED, these(bursts(seed, 120))));
  expect(of(7)).toBe(of(7));
  expect(of(8)).not.toBe(of(7));
});

test("every call of a crowd is done once, with every token once, whatever is preempted or waits", () => {
  const cramped = clusterOf([pool("both", 2, { kv_tokens: 16_384, slots: 16, step_tokens: 512 })]);
  for (const cluster of [MIXED, cramped, clusterOf([pool("both", 1, { pp: 2, batching: "prefill_first" })])]) {
    const arrivals = bursts(3, 150);
    const told = run(cluster, these(arrivals));
    const tokens = new Map(arrivals.map(({ sim }) => [sim.call.call_id, Math.min(sim.output_tokens, sim.call.max_tokens)]));
    expect(told.calls).toHaveLength(150);
    for (const {
      outcome,
      output_tokens,
      call: { call_id },
    } of told.calls) {
      expect(outcome.type).toBe("done");
      expect(output_tokens).toBe(tokens.get(call_id));
    }
    const gaps = [...told.token_gaps.values()].reduce((sum, count) => sum + count, 0);
    expect(gaps).toBe(told.output_tokens - 150);
  }
});

test("GPU time is conserved: the fold of the records finds nothing wrong, and each GPU is paid for from the beginning to the end", () => {
  const told = run(MIXED, these(bursts(5, 100)));
  const fold = createFold(CELL);
  const outputs: FoldOutput[] = told.records.flatMap((record) => [...fold.apply(record)]);
  expect(outputs.filter((output) => output.type === "anomaly")).toEqual([]);
  const metered = outputs.reduce(
    (sum, output) => (output.type === "usage" && output.event.kind === "gpu_time" ? sum + BigInt(output.event.quantity) : sum),
    0n,
  );
  expect(metered).toBe(BigInt(told.virtual) * 1_000n * 4n);
  expect(outputs.filter((output) => output.type === "call")).toHaveLength(100);
  expect(fold.open_calls()).toEqual([]);
});

test("closed loop: what follows from the end of a call is sent after its client has heard of it", () => {
  let turn = 1;
  const begin = these([call("turn_0", 0)]);
  const clients: Clients = {
    first: () => begin.first(),
    ended: (_call, outcome, at) => (outcome.type === "done" && turn < 5 ? [call(`turn_${turn++}`, at + 100_000)] : []),
  };
  const { calls } = run(PAIR, clients);
  expect(calls.map((one) => one.call.call_id)).toEqual(["turn_0", "turn_1", "turn_2", "turn_3", "turn_4"]);
  for (const [n, one] of calls.slice(1).entries()) expect(one.arrived).toBe(Number(calls[n]?.ended) + 100_000);
});

test("a run ends when asked to, with what is known", () => {
  expect(run(PAIR, these(bursts(1, 50)), undefined, { until: second(3) })).toMatchObject({ ended_because: "until", virtual: second(3) });
  let asked = 0;
  const told = run(PAIR, these(bursts(1, 50)), undefined, { stop: () => ++asked > 3 });
  expect(told.ended_because).toBe("stopped");
  expect(told.virtual).toBeLessThanOrEqual(second(3));
});

describe("a cluster that cannot be built says why", () => {
  test.each([
    [
      clusterOf([pool("both", 5)]),
      "5 both instances of llama-3-8b on 1 GPUs each do not fit beside the other pools on 1 nodes of 4 (4 do)",
    ],
    [clusterOf([pool("both", 1, { model: "gpt" })]), "model gpt is not known"],
    [clusterOf([pool("both", 1, { slots: 4_096 })]), "a step of 2048 tokens has no room for 4096 sequences"],
  ])("%#", (cluster, why) => expect(() => run(cluster, these([]))).toThrow(why));
});

test("an instance wider than a node lies on nodes that are stated as one", () => {
  const wide = clusterOf([pool("both", 2, { model: "llama-3-70b", tp: 4 })], { nodes: 4, gpus_per_node: 2 });
  const told = run(wide, these([call("c", 0, { model: "llama-3-70b" })]));
  expect(told.calls[0]?.outcome.type).toBe("done");
  expect(told.records.filter(({ type }) => type === "node_provisioned")).toMatchObject([
    { node: "nodes-001-002", gpus: 4 },
    { node: "nodes-003-004", gpus: 4 },
  ]);
});
