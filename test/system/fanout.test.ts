/** A run that calls a hundred agents at once: each a run of its own, all model calls over the root's one link. */
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { connection, deployText, settledUsage } from "../support/product.ts";

it("completes 100 agents that fan out at once, each billed once", async () => {
  await deployText(
    "fan-leaf",
    `import { agent } from "millrace";
     export default agent(async (ctx) => {
       const answer = await ctx.ai.chat({ messages: [{ role: "user", content: "leaf " + ctx.input.n }], max_tokens: 8 });
       return { n: ctx.input.n, text: answer.text };
     });`,
  );
  await deployText(
    "fan-root",
    `import { agent } from "millrace";
     export default agent(async (ctx) => {
       const numbers = Array.from({ length: ctx.input.leaves }, (_, n) => n);
       return ctx.fanout(numbers, (n, branch) => branch.call("fan-leaf", { n }, { agent: "leaf-" + n }));
     });`,
  );
  const run = await invoke(connection(), "fan-root", { leaves: 100 }, {});
  expect(run).toMatchObject({ status: "done" });
  const leaves = run.output as { n: number; text: string }[];
  expect(leaves.map((leaf) => leaf.n)).toEqual(Array.from({ length: 100 }, (_, n) => n));
  for (const leaf of leaves) expect(leaf.text).toContain("simulated");

  const report = await settledUsage("run", "agent");
  const mine = report.rows.filter((row) => row.key["run"] === run.run);
  expect(mine.reduce((sum, row) => sum + row.calls, 0)).toBe(100);
  expect(mine.every((row) => row.calls <= 100 && BigInt(row.completion_tokens) > 0n)).toBe(true);
  expect(report.reconciliation.difference_gpu_ns).toBe("0");
});
