/**
 * The planner against toys whose limits are known on paper: servers that take a fixed time for a call, first come first served, one a
 * GPU. And against the real cluster on small loads: more nodes are not worse, the same seed gives the same answer.
 */
import { describe, expect, test } from "vitest";
import type { Micros } from "../../../schema/core/time.ts";
import { runCluster } from "../cluster.ts";
import { SHAREGPT } from "../traces/lengths.ts";
import { agents, poisson } from "../traces/synthetic.ts";
import { OpenTrace } from "../traces/trace.ts";
import type { Arrival, CallTimes, RunOptions, RunResult } from "../types.ts";
import { type ClusterFile, parseClusterFile } from "./cluster-file.ts";
import { plan, type PlanOptions, type Progress } from "./plan.ts";
import { closedWorkload, openWorkload } from "./workload.ts";

const SERVICE_US = 20_000;

/** One server for each instance; a call takes SERVICE_US, then all its tokens are there. */
function servers(options: RunOptions): RunResult {
  const free = options.cluster.pools.flatMap((pool) => Array.from({ length: pool.instances }, () => 0));
  const ahead: Arrival[] = [];
  for (let next = options.clients.first(); next !== null; next = options.clients.first()) ahead.push(next);
  const calls: CallTimes[] = [];
  let [virtual, told, stopped] = [0, 0, false];
  ahead.sort((a, b) => a.at - b.at);
  while (ahead.length > 0 && !stopped) {
    const { at, sim } = ahead.shift()!;
    const server = free.indexOf(Math.min(...free));
    const started = Math.max(at, free[server]!);
    const ended = (started + SERVICE_US) as Micros;
    free[server] = ended;
    virtual = Math.max(virtual, ended);
    const usage = { prompt_tokens: sim.call.prompt_tokens, cached_tokens: 0, completion_tokens: 1 };
    const outcome = { type: "done", finish_reason: "stop", usage } as const;
    const [prefill, decode] = [String(server), null];
    const times: CallTimes = {
      call: sim.call,
      outcome,
      arrived: at,
      started: started as Micros,
      first_token: ended,
      last_token: ended,
      ended,
      output_tokens: 1,
      cached_tokens: 0,
      prefill,
      decode,
      transfer: null,
    };
    calls.push(times);
    options.observer?.callEnded?.(times);
    const following = options.clients.ended(sim.call, outcome, ended);
    if (following.length > 0) {
      ahead.push(...following);
      ahead.sort((a, b) => a.at - b.at);
    }
    for (; told + 1e6 <= ended; told += 1e6) {
      options.observer?.clock?.((told + 1e6) as Micros);
      stopped ||= options.stop?.() ?? false;
    }
  }
  const busy = calls.length * SERVICE_US;
  return {
    ended_because: stopped ? "stopped" : "clients_done",
    virtual: virtual as Micros,
    calls,
    instances: free.map((_, i) => ({
      instance: String(i),
      role: "both",
      gpus: 1,
      steps: 0,
      busy: (busy / free.length) as Micros,
      prefill_tokens: 0,
      decode_tokens: 0,
      preemptions: 0,
    })),
    token_gaps: new Map(),
    engine_steps: 0,
    scheduler_events: 0,
    output_tokens: calls.length,
  };
}

/** A call every `gap_us`, to the microsecond. */
function even(gap_us: number, calls = 1_000): OpenTrace {
  const trace = new OpenTrace(0);
  for (let i = 0; i < calls; i++)
    trace.push({ at_us: i * gap_us, prompt_tokens: 100, output_tokens: 1, tenant: "t", program: null, agent: null, blocks: [] });
  return trace;
}

function cluster(over: object): ClusterFile {
  const outcome = parseClusterFile({
    name: "toy",
    gpu: { type: "A100-80GB-SXM", price_per_hour: 3.6, currency: "EUR" },
    gpus_per_node: 1,
    nodes: 1,
    model: "llama-3-8b",
    search: { colocated: [{ tp: 1 }] },
    ...over,
  });
  if (outcome.type === "faults") throw new Error(outcome.faults.join("; "));
  return outcome.cluster;
}

const options = (over: Partial<PlanOptions>): PlanOptions => ({
  workload: openWorkload("even", even(100_000), 1),
  cluster: cluster({}),
  slo: { ttft_us: SERVICE_US, tpot_us: 1_000_000, attainment: 0.9 },
  seed: 1,
  goodput: "best",
  objective: "goodput",
  tolerance: 0.01,
  warm_up_share: 0.1,
  calls_min: 500,
  patience_us: 600e6,
  until_us: null,
  ...over,
});
const planned = (over: Partial<PlanOptions>, runner = servers) =>
  plan(
    options(over),
    runner,
    () => {},
    () => false,
  );

describe("against servers of a fixed time", () => {
  test("bisection on load finds the load at which calls begin to wait: the gap equals the service time", () => {
    for (const gap of [100_000, 30_000, 1_000_000]) {
      const { chosen, verdict } = planned({ workload: openWorkload("even", even(gap), 1) });
      expect(verdict).toBe("met");
      const limit = gap / SERVICE_US;
      expect(chosen!.goodput!.multiple).toBeLessThanOrEqual(limit * 1.002);
      expect(chosen!.goodput!.multiple).toBeGreaterThan(limit * 0.985);
      expect(chosen!.goodput!.calls_per_s).toBeCloseTo(50, -1);
      expect(chosen!.goodput!.fails_at! / chosen!.goodput!.multiple).toBeLessThanOrEqual(1.0101);
    }
  });
  test("… below the trace's own load too, and then the SLO is not met", () => {
    const { chosen, verdict } = planned({ workload: openWorkload("even", even(5_000, 4_000), 1) });
    expect(verdict).toBe("not_met");
    expect(chosen!.goodput!.multiple).toBeGreaterThan(0.24);
    expect(chosen!.goodput!.multiple).toBeLessThanOrEqual(0.2505);
  });
  test("bisection on nodes: as many servers as calls arrive in a service time", () => {
    for (const [gap, fewest] of [
      [25_000, 1],
      [20_000, 1],
      [19_000, 2],
      [7_000, 3],
      [3_000, 7],
    ] as const) {
      const workload = openWorkload("even", even(gap), 1);
      const { chosen } = planned({ workload, cluster: cluster({ nodes: { min: 1, max: 16 } }), goodput: "none" });
      expect([gap, chosen!.nodes]).toEqual([gap, fewest]);
    }
  });
  test("not even the most nodes do: the nearest is shown, and how near", () => {
    const result = planned({
      workload: openWorkload("even", even(1_000), 1),
      cluster: cluster({ nodes: { min: 1, max: 4 } }),
      goodput: "none",
    });
    expect(result.verdict).toBe("not_met");
    expect(result.chosen!.nodes).toBe(4);
    expect(result.chosen!.figures.attainment).toBeLessThan(0.9);
    expect(result.configurations[0]!.trials.some((t) => t.ended !== "complete")).toBe(true);
  });
  test("cost and idle: half the time idle is half the price; per 1,000 calls", () => {
    const { chosen } = planned({ workload: openWorkload("even", even(40_000, 10_000), 1), goodput: "none" });
    expect(chosen!.figures.idle_share).toBeCloseTo(0.5, 3);
    expect(chosen!.figures.cost_per_hour).toBe(3.6);
    expect(chosen!.figures.idle_cost_per_hour).toBeCloseTo(1.8, 2);
    // 25 calls a second: 40 s for 1,000, at 0.001 a second.
    expect(chosen!.figures.cost_per_1000_calls).toBeCloseTo(0.04, 4);
    expect(chosen!.figures.ttft_us).toMatchObject({ p50: SERVICE_US, p99: SERVICE_US });
    expect(chosen!.figures.calls).toBe(9_000);
    expect(chosen!.load.every((p) => p.arrivals_per_s >= 0)).toBe(true);
    expect(chosen!.ttft_us_cdf.at(-1)).toEqual([SERVICE_US, 1]);
  });
  test("a closed loop is loaded by users: as many as the servers answer without waiting", () => {
    const fixed = (tokens: number) => ({ type: "fixed" as const, tokens });
    const source = agents({ agents: 40, turns: 50, system_tokens: 0, added: fixed(10), answer: fixed(1), tool_ms: 0, seed: 1 });
    const workload = closedWorkload("agents", source, { users: 2, stagger_us: 5_000, gap_us_max: 1e9, calls_max: null });
    const { chosen, notes } = planned({
      workload,
      cluster: cluster({ nodes: 8 }),
      slo: { ttft_us: SERVICE_US, tpot_us: 1, attainment: 1 },
    });
    expect(chosen!.goodput!.multiple * 2).toBeCloseTo(8, 0);
    expect(notes.join(" ")).toContain("Closed loop");
  });
  test("few calls are said to be few; long prompts are said to be cut", () => {
    const trace = even(100_000, 20);
    trace.push({ at_us: 2e6, prompt_tokens: 9_000, output_tokens: 1, tenant: "t", program: null, agent: null, blocks: [] });
    const { notes } = planned({ workload: openWorkload("few", trace, 1) });
    expect(notes.join("\n")).toContain("Only 19 calls were counted");
    expect(notes.join("\n")).toContain("1 calls are longer than the context of 8192 tokens");
  });
});

describe("interrupted", () => {
  test.each([0, 1, 3, 7])("after %i looks it ends at once, and what was known is in the answer", (looks) => {
    let asked = 0;
    const result = plan(
      options({ workload: openWorkload("even", even(100_000), 1) }),
      servers,
      () => {},
      () => asked++ >= looks,
    );
    expect(result.complete).toBe(false);
    expect(asked).toBeLessThan(looks + 10);
    expect(JSON.parse(JSON.stringify(result))).toMatchObject({ format: "millrace-plan", complete: false });
    if (looks === 0) expect(result.verdict).toBe("unknown");
  });
  test("progress names the replay, and its calls grow", () => {
    const seen: Progress[] = [];
    plan(
      options({ goodput: "none" }),
      servers,
      (p) => seen.push(p),
      () => false,
    );
    expect(seen[0]).toMatchObject({ run: 1, configuration: "1 nodes: C1×tp1 · baseline", multiple: 1, calls: 1_000 });
    expect(seen.filter((p) => p.run === 1).every((p, i, all) => i === 0 || p.calls_ended >= all[i - 1]!.calls_ended)).toBe(true);
  });
});

describe("against the cluster", () => {
  const sharegpt = (calls: number, per_second: number) => openWorkload("x", poisson({ workload: SHAREGPT, per_second, calls, seed: 5 }), 1);
  const slo = { ttft_us: 400_000, tpot_us: 60_000, attainment: 0.9 };
  const searched = { search: { colocated: [{ tp: 1 }], prefill: [{ tp: 1 }], decode: [{ tp: 1 }] }, gpus_per_node: 2 };

  test("more nodes attain no less (2 % of noise) and answer no later", () => {
    let before = { attainment: 0, p90: Infinity };
    for (const nodes of [1, 2, 4]) {
      const { chosen } = planned(
        { workload: sharegpt(300, 6), slo, cluster: cluster({ nodes, gpus_per_node: 1 }), goodput: "none" },
        runCluster,
      );
      const { attainment, ttft_us } = chosen!.figures;
      expect(attainment).toBeGreaterThanOrEqual(before.attainment - 0.02);
      expect(ttft_us!.p90).toBeLessThanOrEqual(before.p90 * 1.02);
      before = { attainment, p90: ttft_us!.p90 };
    }
  });
  test("the same seed gives the same answer, byte for byte; every configuration tried is in it", () => {
    const over = {
      workload: sharegpt(150, 2),
      slo,
      cluster: cluster({ ...searched, policies: [{ name: "baseline" }, { routing: "load-balance" }] }),
    };
    const [first, second] = [planned(over, runCluster), planned(over, runCluster)];
    expect(JSON.stringify(first)).toBe(JSON.stringify(second));
    expect(first.configurations.map((c) => c.configuration)).toEqual([
      "C2×tp1 · baseline",
      "C2×tp1 · load-balance",
      "P1×tp1 D1×tp1 · baseline",
      "P1×tp1 D1×tp1 · load-balance",
    ]);
    expect(first.verdict).toBe("met");
    expect(first.chosen!.figures.roles.length).toBeGreaterThan(0);
  });
  test("early ends do not change which configuration wins", () => {
    const over = { workload: sharegpt(150, 2), slo, cluster: cluster(searched) };
    const [best, all] = [planned(over, runCluster), planned({ ...over, goodput: "all" }, runCluster)];
    const most = all.configurations.toSorted((a, b) => (b.goodput?.multiple ?? 0) - (a.goodput?.multiple ?? 0))[0];
    expect(best.chosen!.configuration).toBe(most!.configuration);
  });
});
