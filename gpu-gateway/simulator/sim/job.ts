/** Does one job: runs the scenario, once, or twice to see that it says the same again. */
import { createHash } from "node:crypto";
import { scenarioOf } from "./generate.ts";
import type { Done, Job } from "./messages.ts";
import { runScenario, type RunReport } from "./run.ts";

export function doJob(job: Job): Done {
  const began = performance.now();
  const scenario = job.type === "seed" ? scenarioOf(job.seed) : job.scenario;
  const first = once();
  const report = job.twice ? asCompared(first, once()) : first.report;
  return { report, digest: first.digest, wall_ms: performance.now() - began };

  function once(): { readonly report: RunReport; readonly digest: string | null } {
    if (!job.digest && !job.twice) return { report: runScenario(scenario, { plant: job.plant }), digest: null };
    const hash = createHash("sha256");
    const report = runScenario(scenario, { plant: job.plant, said: (line) => hash.update(line).update("\n") });
    return { report, digest: hash.update(JSON.stringify(report)).digest("hex") };
  }
}

type Once = { readonly report: RunReport; readonly digest: string | null };

/** I9: the same scenario, the same bytes. */
function asCompared(first: Once, second: Once): RunReport {
  if (first.digest === second.digest || first.report.outcome.type === "broken") return first.report;
  const words = `run again, it says something else: ${first.digest}, then ${second.digest}`;
  const { virtual: at, events } = first.report;
  return { ...first.report, outcome: { type: "broken", invariant: "I9", at, words, events } };
}
