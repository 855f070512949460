/** The usage report: what a run used, and that metered = provisioned, unless something is wrong. */
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { connection, settledUsage, withDatabase } from "../support/product.ts";

it("reports each agent of a swarm's run, and reconciles to the nanosecond", async () => {
  const run = await invoke(connection(), "swarm", { question: "Who owns the water of the mill race?" }, {});
  expect(run.status).toBe("done");
  const report = await settledUsage("agent", "run");
  const rows = report.rows.filter((row) => row.key["run"] === run.run);
  const agents = rows.map((row) => row.key["agent"]);
  expect(agents).toContain("router");
  expect(agents).toContain("aggregator");
  expect(agents.length).toBeGreaterThanOrEqual(4);
  for (const row of rows) {
    expect(row.calls).toBe(1);
    expect(BigInt(row.prefill_gpu_ns)).toBeGreaterThan(0n);
    expect(BigInt(row.decode_gpu_ns)).toBeGreaterThan(0n);
    expect(BigInt(row.completion_tokens)).toBeGreaterThan(0n);
  }
  expect(report.reconciliation.difference_gpu_ns).toBe("0");
  expect(report.reconciliation.metered_gpu_ns).toBe(report.reconciliation.provisioned_gpu_ns);
  const centres = Object.values(report.reconciliation.by_cost_centre).reduce((sum, gpu_ns) => sum + BigInt(gpu_ns), 0n);
  expect(centres.toString()).toBe(report.reconciliation.metered_gpu_ns);
});

it("shows the difference when any one usage row is gone", async () => {
  await settledUsage("agent");
  await withDatabase(async (sql) => {
    for (const which of ["first", "middle", "last"] as const) {
      // The administrator's way past the append-only trigger, in a transaction that is rolled back after the look.
      const [row] = await sql<{ tenant: string; source: string; id: string; quantity: string }[]>`
        select tenant, source, id, quantity::text from usage where kind = 'gpu_time' and quantity <> 0 order by from_ns, id
        offset (case ${which}::text when 'first' then 0 when 'middle' then (select count(*) / 2 from usage where kind = 'gpu_time' and quantity <> 0)
          else (select count(*) - 1 from usage where kind = 'gpu_time' and quantity <> 0) end) limit 1`;
      if (!row) throw new Error("no usage row");
      const kept = await sql.begin(async (tx) => {
        await tx`set local session_replication_role = replica`;
        return tx`delete from usage where tenant = ${row.tenant} and source = ${row.source} and id = ${row.id} returning *`;
      });
      expect(kept).toHaveLength(1);
      // Without settling anew: the watermark stays where it was or moves on; either way exactly this row is missing.
      const report = await settledUsage("agent");
      expect(report.reconciliation.difference_gpu_ns).toBe(row.quantity);
      await sql`insert into usage ${sql(kept as unknown as Record<string, unknown>[])}`;
      expect((await settledUsage("agent")).reconciliation.difference_gpu_ns).toBe("0");
    }
  });
});
