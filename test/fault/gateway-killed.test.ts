/** SIGKILL of the gateway in mid-call: an answer or one clear error; instances adopted; the gap on `lost`; the books still add up. */
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { isAlive } from "../../cli/dev/process.ts";
import { connection, deployText, product, running, settledUsage } from "../support/product.ts";
import { until } from "../support/until.ts";

type State = { instances: { instance_id: string; state: string }[]; epoch: number; legs: number };
const state = async (): Promise<State> => {
  const { gateway_url, key } = product();
  return (await (await fetch(`${gateway_url}/admin/state`, { headers: { authorization: `Bearer ${key}` } })).json()) as State;
};

it("survives SIGKILL of the gateway while runs are in flight", async () => {
  await deployText(
    "long-talk",
    `import { agent } from "millrace";
     export default agent(async (ctx) => {
       const { n, tokens } = ctx.input;
       const answer = await ctx.ai.chat({
         messages: [{ role: "user", content: "talk " + n }],
         max_tokens: tokens,
         // As long as its schema asks for: it is on its way when the gateway is killed.
         response_format: { type: "json_schema", json_schema: { name: "long", schema: { const: "word".repeat(tokens) } } },
       });
       return answer.usage;
     });`,
  );
  const before = await state();
  const instances = before.instances.map((instance) => instance.instance_id).toSorted();
  expect(instances).toHaveLength(4);
  const lost = async () => BigInt((await settledUsage("function")).reconciliation.by_cost_centre["lost"] ?? "0");
  const lost_before = await lost();
  const { gateway } = running();

  const calls = Array.from({ length: 8 }, (_, n) =>
    invoke(connection(), "long-talk", { n, tokens: 1_500 }, {}).then(
      (run) => ({ ok: run.status === "done", code: run.error?.code }),
      (error: { code?: string; status?: number }) => ({ ok: false, code: error.code }),
    ),
  );
  await until("legs are in flight", async () => (await state()).legs > 0);
  process.kill(gateway.process.pid, "SIGKILL");
  const ended = await Promise.all(calls);
  for (const end of ended) if (!end.ok) expect(["gateway_lost", "gateway_unavailable", "engine_failed"]).toContain(end.code);

  await until(
    "the gateway is up again",
    () => running().gateway.process.pid !== gateway.process.pid && isAlive(running().gateway.process),
    30_000,
  );
  const ready = (one: State | null) => one?.instances.filter((instance) => instance.state === "ready").length === 4;
  await until("four instances are ready", async () => ready(await state().catch(() => null)), 30_000);
  const after = await state();
  expect(after.instances.map((instance) => instance.instance_id).toSorted()).toEqual(instances);
  expect(after.epoch).toBeGreaterThan(before.epoch);
  expect((await invoke(connection(), "long-talk", { n: 99, tokens: 8 }, {})).status).toBe("done");

  const report = await settledUsage("function");
  expect(report.reconciliation.difference_gpu_ns).toBe("0");
  expect(await lost()).toBeGreaterThan(lost_before);
});
