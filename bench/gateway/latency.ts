/**
 * What the gateway adds: the same closed-loop load sent to an engine directly and through the gateway, in interleaved rounds, at 1,
 * 4, 16 and 64 clients; metering, journal and scheduling on; and the processor time of the gateway, which a busy machine changes less
 * than it does latency. `node bench/gateway/latency.ts [--rounds N] [--requests N] [--json FILE]`
 */
import { parseArgs } from "node:util";
import { commit, machine, markdown, median, percentile, writeFigures, type BenchFile } from "../lib/figures.ts";
import { cpuSeconds } from "../lib/cpu.ts";
import { root, startFixedEngine, startGateway, startLoad } from "../lib/world.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    requests: { type: "string", default: "400" },
    clients: { type: "string", default: "1,4,16,64" },
    json: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const requests = Number(values.requests);
const clients = values.clients.split(",").map(Number);
const engine_args = ["--ttft-ms", "20", "--tokens", "16"];
const body = { model: "llama-3-8b", max_tokens: 16, messages: [{ role: "user", content: "mill race ".repeat(40) }] };

const engine = await startFixedEngine(engine_args);
const world = await startGateway(engine_args).catch(async (error: unknown) => {
  await engine.stop();
  throw error;
});
const load = startLoad();
const figures: { row: string; column: string; unit: string; values: number[] }[] = [];
const note = (row: string, column: string, value: number, unit = "ms"): void => {
  const found = figures.find((figure) => figure.row === row && figure.column === column);
  if (found) found.values.push(value);
  else figures.push({ row, column, unit, values: [value] });
};
const CPU = "gateway CPU a 1,000 requests";
let errors = 0;
try {
  for (let round = -1; round < rounds; round++) {
    const round_began_s = cpuSeconds(world.gateway_pid);
    let round_requests = 0;
    for (const count of clients) {
      const row = `${count} client${count === 1 ? "" : "s"}`;
      const size = Math.max(count * 4, Math.min(requests, count * 100));
      let cpu_s = 0;
      for (const stream of [false, true]) {
        const common = { body, clients: count, requests: size, stream };
        const measureDirect = () => load.run({ ...common, url: `${engine.url}/v1/chat/completions`, headers: {} });
        const measureThrough = async () => {
          const began_s = cpuSeconds(world.gateway_pid);
          const headers = { authorization: `Bearer ${world.key}` };
          const measured = await load.run({ ...common, url: `${world.gateway_url}/v1/chat/completions`, headers });
          cpu_s += cpuSeconds(world.gateway_pid) - began_s;
          return measured;
        };
        // Which goes first alternates: what the one leaves behind (heat, caches, collections) falls on either.
        const direct_first = round % 2 === 0;
        const before = direct_first ? await measureDirect() : null;
        const through = await measureThrough();
        const direct = before ?? (await measureDirect());
        errors += direct.errors + through.errors;
        if (round < 0) continue; // warm-up
        if (stream) note(row, "added TTFT p50", median(through.ttft_ms) - median(direct.ttft_ms));
        else {
          note(row, "direct p50", median(direct.latency_ms));
          note(row, "added p50", median(through.latency_ms) - median(direct.latency_ms));
          note(row, "added p99", percentile(through.latency_ms, 99) - percentile(direct.latency_ms, 99));
        }
      }
      round_requests += 2 * size;
      if (round >= 0) note(row, CPU, (cpu_s / (2 * size)) * 1_000, "s");
    }
    // What is done later (shipping to the ledger) falls between the slices above, and is in this figure only.
    if (round >= 0)
      note("whole round, idle time included", CPU, ((cpuSeconds(world.gateway_pid) - round_began_s) / round_requests) * 1_000, "s");
  }
} finally {
  await load.stop();
  await world.stop();
  await engine.stop();
}

const file: BenchFile = {
  bench: "gateway-latency",
  title: "Latency that the gateway adds to one instance",
  command: ["node bench/gateway/latency.ts", ...process.argv.slice(2)].join(" "),
  measured_at: new Date().toISOString(),
  commit: commit(root),
  machine: machine(),
  versions: { node: process.versions.node },
  rounds,
  samples_per_round: `${requests} requests at most a cell`,
  figures,
  not_measured: [
    "a real engine (a fixed one stands in: first token after 20 ms, 16 tokens at once)",
    "two-leg calls",
    "the edge",
    "TLS",
    "more than one gateway core: load, engine, gateway and Postgres share the machine",
  ],
};
process.stdout.write(`${markdown(file)}\n`);
if (values.json) writeFigures(values.json, file);
if (errors > 0) {
  process.stderr.write(`${errors} requests were not answered as they should\n`);
  process.exitCode = 1;
}
