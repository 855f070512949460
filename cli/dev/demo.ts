/**
 * `npm run demo`: one question to the swarm, against the product that runs in this folder or one that it starts and stops. Shows
 * the router's choice, the specialists in parallel, the aggregator's tokens; then what each agent used, and the reconciliation.
 */
import { formatGpuSeconds } from "../../schema/core/time.ts";
import { faultOf, invokeStream } from "../commands/invoke.ts";
import { reconciles, reconciliationText, usage } from "../commands/usage.ts";
import type { Connection } from "../connection.ts";
import { grouped, printJson, printLine, table } from "../output.ts";
import { reason } from "../reason.ts";
import { deploySwarm } from "./example.ts";
import { isAlive } from "./process.ts";
import { start } from "./start.ts";
import { startOptions, type DevFlags } from "./dev.ts";
import { StateFolder } from "./state.ts";

const QUESTION = "Should our town heat its greenhouses with the waste heat of a GPU hall?";

export async function demo(flags: DevFlags & { readonly question: string | undefined; readonly json?: boolean }): Promise<number> {
  const say = (line: string) => process.stderr.write(`millrace: ${line}\n`);
  const options = startOptions(flags, say);
  const state = new StateFolder(options.state);
  const run = state.readRun();
  const key = state.readSecret("dev-key");
  if (run?.ready && run.edge && key && isAlive(run.supervisor)) return ask({ url: run.edge.url, key }, flags);
  say("no product runs in this folder; starting one for the demo");
  const starting = start(options);
  // From before the first child: what is half up comes up first, then it is known what to stop. A second Ctrl-C changes nothing.
  let stopping = false;
  const stop = () => {
    if (stopping) return;
    stopping = true;
    say("stopping …");
    void starting
      .then(
        (running) => running.stop(),
        () => {}, // what Ctrl-C broke is no news
      )
      .then(
        () => process.exit(130),
        (error: unknown) => {
          say(reason(error));
          process.exit(1);
        },
      );
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
  const running = await starting.catch((error: unknown) => {
    if (!stopping) say(reason(error));
    return null;
  });
  if (!running) return stopping ? 130 : 1;
  try {
    const connection = { url: running.edge_url, key: running.key };
    await deploySwarm(flags.root, connection);
    return await ask(connection, flags);
  } finally {
    await running.stop();
  }
}

async function ask(connection: Connection, flags: { readonly question: string | undefined; readonly json?: boolean }): Promise<number> {
  const question = flags.question ?? QUESTION;
  const show = flags.json ? () => {} : (text: string) => process.stdout.write(text);
  show(`question    ${question}\n`);
  let run_id = "";
  let output: unknown = null;
  let aggregating = false;
  for await (const event of invokeStream(connection, "swarm", { question }, {})) {
    switch (event.type) {
      case "run.started":
        run_id = event.run;
        show(`run         ${run_id}\n`);
        break;
      case "step":
        // A specialist's own steps lie below its call: the call's start and end say enough.
        if (event.agent && event.agent !== "aggregator" && !isInner(event.path)) show(`${event.status.padEnd(10)}  ${event.agent}\n`);
        break;
      case "event":
        if (event.name === "swarm.routed") show(`router      chose ${(event.data as { asked: string[] }).asked.join(", ")}\n`);
        break;
      case "delta":
        if (event.agent !== "aggregator") break;
        if (!aggregating) show("\naggregator  ");
        aggregating = true;
        show(event.text);
        break;
      case "usage":
        break;
      case "run.done":
        output = event.output;
        break;
      case "run.failed":
        throw faultOf(event);
    }
  }
  const report = await usage(connection, { group_by: ["agent", "run"], settle: true });
  const mine = report.rows.filter((row) => row.key["run"] === run_id);
  if (flags.json) printJson({ run: run_id, output, rows: mine, reconciliation: report.reconciliation });
  else {
    const right = true;
    printLine("\n");
    printLine(
      table(
        [
          { title: "agent" },
          { title: "calls", right },
          { title: "prompt", right },
          { title: "completion", right },
          { title: "prefill GPU-s", right },
          { title: "holding GPU-s", right },
          { title: "decode GPU-s", right },
          { title: `cost ${report.currency}`, right },
        ],
        mine.map((row) => [
          row.key["agent"] ?? "–",
          String(row.calls),
          grouped(row.prompt_tokens),
          grouped(row.completion_tokens),
          formatGpuSeconds(BigInt(row.prefill_gpu_ns)),
          formatGpuSeconds(BigInt(row.holding_gpu_ns)),
          formatGpuSeconds(BigInt(row.decode_gpu_ns)),
          row.cost,
        ]),
      ),
    );
    printLine("");
    printLine(reconciliationText(report));
  }
  return reconciles(report) ? 0 : 3;
}

/** `fanout#1/0/call#1` is the swarm's step, `fanout#1/0/call#1/ai#1` the specialist's. */
const isInner = (path: string): boolean => /(^|\/)call[^/]*\//.test(path);
