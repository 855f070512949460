/** The usage report: what a run used, and that metered = provisioned, unless something is wrong. */
import type postgres from "postgres";
import { expect, it } from "vitest";
import { invoke } from "../../cli/commands/invoke.ts";
import { DEFAULT_TENANT } from "../../schema/db/seed.ts";
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

it("shows the difference when any one usage row is gone, whatever its kind", async () => {
  const before = (await settledUsage("agent")).reconciliation;
  expect(before.usage_rows_missing).toEqual({});
  await withDatabase(async (sql) => {
    const rows = await sql<{ tenant: string; source: string; id: string; kind: string; quantity: string }[]>`
      select distinct on (kind, half) tenant, source, id, kind, quantity::text
      from (select *, ntile(2) over (partition by kind order by from_ns, id) as half from usage where tenant in ('-', ${DEFAULT_TENANT}::text)) as u
      order by kind, half, quantity desc, id`;
    expect([...new Set(rows.map((row) => row.kind))]).toEqual(expect.arrayContaining(["edge_request", "edge_wall", "gpu_time", "tokens"]));
    for (const row of rows) {
      const kept = await asAdministrator(
        sql,
        (tx) => tx`delete from usage where tenant = ${row.tenant} and source = ${row.source} and id = ${row.id} returning *`,
      );
      expect(kept).toHaveLength(1);
      // Settled anew, so that the watermark moves on: exactly this row is missing.
      const { reconciliation } = await settledUsage("agent");
      expect(reconciliation.usage_rows_missing).toEqual({ [row.kind]: { rows: "1", quantity: row.quantity } });
      expect(reconciliation.difference_gpu_ns).toBe(row.kind === "gpu_time" ? row.quantity : "0");
      expect(reconciliation.calls_without_usage).toBe(row.kind === "tokens" ? 1 : 0);
      await asAdministrator(sql, (tx) => tx`insert into usage ${tx(kept as unknown as Record<string, unknown>[])}`);
    }
    const after = (await settledUsage("agent")).reconciliation;
    expect(after).toMatchObject({ difference_gpu_ns: "0", calls_without_usage: 0, usage_rows_missing: {} });
  });
});

/** The way past the append-only trigger, and past the tally that a row is counted in when it is written. */
const asAdministrator = <T>(sql: postgres.Sql, work: (tx: postgres.TransactionSql) => Promise<T>) =>
  sql.begin(async (tx) => {
    await tx`set local session_replication_role = replica`;
    return work(tx);
  });
