/** SIGSTOP of the gateway until its leases are over, then SIGCONT: it ends, its successor begins anew, runs end, and the books add up. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { isAlive } from "../../cli/dev/process.ts";
import { connection, deployText, product, running, settledUsage, withDatabase } from "../support/product.ts";
import { until } from "../support/until.ts";

const TALK = `import { agent } from "millrace";
export default agent(async (ctx) =>
  (await ctx.ai.chat({ messages: [{ role: "user", content: "talk " + ctx.input.n }], max_tokens: ctx.input.tokens })).usage);`;

type State = { instances: { state: string }[]; epoch: number; legs: number };
const state = async (): Promise<State> => {
  const { gateway_url, key } = product();
  return (await (await fetch(`${gateway_url}/admin/state`, { headers: { authorization: `Bearer ${key}` } })).json()) as State;
};
const ready = async () => (await state().catch(() => null))?.instances.filter((one) => one.state === "ready").length === 4;

it("ends a gateway that stood still past its lease, and goes on with the next", async () => {
  await deployText("talk-through", TALK);
  await until("four instances are ready", ready, 30_000);
  const { epoch } = await state();
  const lost = async () => BigInt((await settledUsage("function")).reconciliation.by_cost_centre["lost"] ?? "0");
  const lost_before = await lost();
  const { gateway } = running();
  const talk = (n: number, tokens: number) => invoke(connection(), "talk-through", { n, tokens }, {});

  const runs = Array.from({ length: 4 }, (_, n) =>
    talk(n, 2_000).then(
      (run) => run.error?.code ?? run.status,
      (error: { code?: string }) => error.code,
    ),
  );
  await until("legs are in flight", async () => (await state()).legs > 0);
  process.kill(gateway.process.pid, "SIGSTOP");
  const nodes = join(product().state, "gateway", "nodes");
  await until("the node gave itself back", () => readdirSync(nodes).every((node) => !existsSync(join(nodes, node, "agent.json"))), 60_000);
  await until("the cell's lease is over", () =>
    withDatabase(async (sql) => (await sql`select 1 from cells where expires_at > now()`).length === 0),
  );
  process.kill(gateway.process.pid, "SIGCONT");

  for (const end of await Promise.all(runs)) expect(["done", "gateway_lost", "gateway_unavailable", "engine_failed"]).toContain(end);
  await until(
    "the next gateway",
    () => running().gateway.process.pid !== gateway.process.pid && isAlive(running().gateway.process) && !isAlive(gateway.process),
    30_000,
  );
  await until("four instances are ready", ready, 60_000);
  expect((await state()).epoch).toBeGreaterThan(epoch);
  expect((await talk(9, 8)).status).toBe("done");
  const report = await settledUsage("function");
  expect(report.reconciliation).toMatchObject({ difference_gpu_ns: "0", calls_without_usage: 0 });
  expect(await lost()).toBeGreaterThan(lost_before);
});
