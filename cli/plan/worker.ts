/** The thread that reads the trace and plans: simulations compute without a pause, and somebody must hear Ctrl-C. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { plan } from "../../gpu-gateway/simulator/planner/plan.ts";
import { closedWorkload, openWorkload, type Workload } from "../../gpu-gateway/simulator/planner/workload.ts";
import { runCluster } from "../../gpu-gateway/simulator/cluster.ts";
import type { SessionSource } from "../../gpu-gateway/simulator/traces/closed-loop.ts";
import { SHAREGPT } from "../../gpu-gateway/simulator/traces/lengths.ts";
import { readTrace } from "../../gpu-gateway/simulator/traces/read.ts";
import { agents, poisson } from "../../gpu-gateway/simulator/traces/synthetic.ts";
import { TraceFault } from "../../gpu-gateway/simulator/traces/trace.ts";
import type { WorkerMessage, WorkerStart } from "./messages.ts";
import type { PlanRequest } from "./request.ts";

/** Below this p99 and breaking load are said to be guesses. */
const CALLS_MIN = 500;
/** Users of a closed loop begin within this time of each other. */
const STAGGER_US = 30e6;
const USERS = 20;
/** Spread of generated prompts and answers of agents: log-normal. */
const SIGMA = 0.8;
const PROGRESS_MS = 100;

const { request, stop } = workerData as WorkerStart;
const flag = new Int32Array(stop);
const port: MessagePort | null = parentPort;
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
const say = (message: WorkerMessage): void => port?.postMessage(message);

async function main(): Promise<void> {
  const workload = await workloadOf(request);
  let said = 0;
  const answer = plan(
    {
      workload,
      cluster: request.cluster,
      slo: request.slo,
      seed: request.seed,
      goodput: request.goodput,
      objective: request.objective,
      tolerance: request.tolerance,
      warm_up_share: request.warm_up,
      calls_min: CALLS_MIN,
      patience_us: request.patience_s * 1e6,
      until_us:
        workload.kind === "closed" && request.trace.type === "file" && request.trace.read.to_ms !== null
          ? request.trace.read.to_ms * 1_000
          : null,
    },
    runCluster,
    (progress) => {
      const now = performance.now();
      if (now - said < PROGRESS_MS) return;
      said = now;
      say({ type: "progress", progress });
    },
    () => Atomics.load(flag, 0) !== 0,
  );
  say({ type: "plan", plan: answer });
}

async function workloadOf({ trace, rate, seed, users, gap_s_max }: PlanRequest): Promise<Workload> {
  if (trace.type === "sharegpt") {
    const generated = poisson({ workload: SHAREGPT, per_second: trace.per_second, calls: trace.calls, seed });
    return openWorkload("sharegpt (generated)", generated, rate);
  }
  if (trace.type === "agents") {
    const log_normal = (median: number) => ({ type: "log_normal" as const, median, sigma: SIGMA, min: 1, max: 8 * median });
    const source = agents({ ...trace, added: log_normal(trace.added_tokens), answer: log_normal(trace.answer_tokens), seed });
    return closed("agents (generated)", source, users ?? trace.agents, rate, gap_s_max, null);
  }
  const { trace: read, skipped } = await readTrace(trace.file, trace.format, trace.read);
  if (read.kind === "open") {
    say({ type: "read", calls: read.calls, skipped: skipped.count, skipped_first: skipped.first });
    return openWorkload(trace.file, read, rate);
  }
  const { sessions } = read;
  const source: SessionSource = { block_tokens: read.block_tokens, count: sessions.length, session: (nth) => nthOf(sessions, nth) };
  const workload = closed(trace.file, source, users ?? USERS, rate, gap_s_max, trace.read.limit);
  say({ type: "read", calls: workload.calls(1), skipped: skipped.count, skipped_first: skipped.first });
  return workload;
}

function closed(name: string, source: SessionSource, users: number, rate: number, gap_s_max: number, calls_max: number | null): Workload {
  const at_once = Math.max(1, Math.round(users * rate));
  return closedWorkload(name, source, { users: at_once, stagger_us: STAGGER_US / at_once, gap_us_max: gap_s_max * 1e6, calls_max });
}

function nthOf<T>(items: readonly T[], nth: number): T {
  const item = items[nth];
  if (item === undefined) throw new RangeError(`no session ${nth} of ${items.length}`);
  return item;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof TraceFault)) throw error;
  say({ type: "malformed", message: error.message });
}
