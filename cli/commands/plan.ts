/**
 * `millrace plan`: how many nodes, which split and policies, what latency and cost, and where it breaks. Needs no running product.
 *
 * Exit codes: 0 the SLO is met, 3 by no configuration tried, 4 the trace is malformed, 130 interrupted (with what was known by then).
 */
import { writeFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import type { Plan } from "../../gpu-gateway/simulator/planner/answer.ts";
import { UsageFault } from "../connection.ts";
import { printJson, printLine } from "../output.ts";
import { planPage } from "../plan/html.ts";
import type { WorkerMessage, WorkerStart } from "../plan/messages.ts";
import { ProgressLine } from "../plan/progress.ts";
import { type PlanFlags, planRequest } from "../plan/request.ts";
import { planText } from "../plan/text.ts";

const EXIT = { met: 0, not_met: 3, malformed: 4, interrupted: 130 } as const;

export type PlanCommandFlags = PlanFlags & { readonly json?: boolean; readonly html?: string };

export async function planCommand(trace: string, flags: PlanCommandFlags): Promise<number> {
  const request = planRequest(trace, flags);
  // Said before minutes of work, not after.
  if (flags.html !== undefined) write(flags.html, "");
  const progress = new ProgressLine(process.stderr, () => performance.now());
  const stop = new SharedArrayBuffer(4);
  const start: WorkerStart = { request, stop };
  const worker = new Worker(new URL("../plan/worker.ts", import.meta.url), { workerData: start });
  let planning = false;
  let interrupts = 0;
  const interrupt = (): void => {
    // While the trace is read nothing is known; and who asks twice does not want to wait.
    if (++interrupts > 1 || !planning) process.exit(EXIT.interrupted);
    Atomics.store(new Int32Array(stop), 0, 1);
  };
  process.on("SIGINT", interrupt);
  try {
    const outcome = await new Promise<Plan | string>((resolve, reject) => {
      worker.on("message", (message: WorkerMessage) => {
        switch (message.type) {
          case "read":
            planning = true;
            for (const line of message.skipped_first) process.stderr.write(`millrace: skipped ${line}\n`);
            if (message.skipped > 0)
              process.stderr.write(`millrace: ${message.skipped} malformed lines were skipped; ${message.calls} calls were read\n`);
            return;
          case "progress":
            planning = true;
            progress.show(message.progress);
            return;
          case "plan":
            resolve(message.plan);
            return;
          case "malformed":
            resolve(message.message);
        }
      });
      worker.on("error", reject);
      worker.on("exit", (code) => reject(new Error(`the planning thread ended with code ${code} and no answer`)));
    });
    progress.clear();
    if (typeof outcome === "string") {
      process.stderr.write(`millrace: ${outcome}\n`);
      return EXIT.malformed;
    }
    if (flags.html !== undefined) write(flags.html, planPage(outcome));
    if (flags.json) printJson(outcome);
    else printLine(planText(outcome));
    if (!outcome.complete) return EXIT.interrupted;
    return outcome.verdict === "met" ? EXIT.met : EXIT.not_met;
  } finally {
    progress.clear();
    process.off("SIGINT", interrupt);
    await worker.terminate();
  }
}

function write(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (error) {
    throw new UsageFault(`--html ${file} cannot be written: ${error instanceof Error ? error.message : String(error)}`);
  }
}
