import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { READ_ALL } from "../../../../gpu-gateway/simulator/traces/lines.ts";
import { readTrace } from "../../../../gpu-gateway/simulator/traces/read.ts";
import { OpenTrace } from "../../../../gpu-gateway/simulator/traces/trace.ts";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { BEGIN_NS, END_NS, sampleShipment } from "../../../../test/support/usage-events.ts";
import { nanos } from "../../../core/time.ts";
import { createPostgresLedger } from "../../ledger.ts";
import { type ExportedCall, exportCalls } from "./export-calls.ts";

let db: FreshDatabase;
const shipment = sampleShipment(3);
beforeAll(async () => {
  db = await freshDatabase();
  await createPostgresLedger(db.sql).ship(shipment);
});
afterAll(() => db.drop());

async function exported(over: Partial<Parameters<typeof exportCalls>[1]> = {}): Promise<ExportedCall[]> {
  const rows: ExportedCall[] = [];
  for await (const batch of exportCalls(db.sql, { from: nanos(BEGIN_NS), to: nanos(END_NS), tenant: null, ...over })) rows.push(...batch);
  return rows;
}

test("every call once, in the order of acceptance, with its sizes and names", async () => {
  const rows = await exported();
  expect(rows).toHaveLength(shipment.calls.length);
  const accepted = rows.map((row) => BigInt(row.accepted_at_ns));
  expect(accepted).toEqual(accepted.toSorted((a, b) => Number(a - b)));
  const first = shipment.calls.find((call) => rows[0]?.prompt_tokens === String(call.tokens.prompt));
  expect(rows[0]).toMatchObject({
    cached_tokens: String(first?.tokens.cached),
    completion_tokens: String(first?.tokens.completion),
    agent: first?.tags["agent"],
    model: "m",
    outcome: "done",
  });
});

test("from is in the period, to is not; one tenant's are that tenant's (I3)", async () => {
  const minutes = shipment.calls.map((call) => call.accepted_at);
  const second = nanos(minutes.reduce((most, at) => (at > most ? at : most), 0n));
  expect(await exported({ from: second })).toHaveLength(minutes.filter((at) => at === second).length);
  expect(await exported({ to: second })).toHaveLength(minutes.filter((at) => at < second).length);
  const own = await exported({ tenant: "ten_a" });
  expect(own.length).toBeGreaterThan(0);
  expect(new Set(own.map((row) => row.tenant))).toEqual(new Set(["ten_a"]));
});

test("more than one batch comes whole", async () => {
  await db.sql`
    insert into calls (tenant, call, accepted_at_ns, ended_at_ns, outcome, cell, prompt_tokens, cached_tokens, completion_tokens)
    select 'ten_many', 'call_' || n, ${END_NS.toString()}::numeric + n, ${END_NS.toString()}::numeric + n, 'done', 'c', n, 0, 1
    from generate_series(1, 5000) as n`;
  const rows = await exported({ to: nanos(END_NS + 10_000n), tenant: "ten_many" });
  expect(rows.map((row) => Number(row.prompt_tokens))).toEqual(Array.from({ length: 5_000 }, (_, i) => i + 1));
});

const bySize = (a: readonly number[], b: readonly number[]): number => (a[0] ?? 0) - (b[0] ?? 0);

test("millrace plan export writes them as a trace that the planner reads", async () => {
  await db.sql`
    insert into calls (tenant, call, accepted_at_ns, ended_at_ns, outcome, cell, prompt_tokens, cached_tokens, completion_tokens)
    values ('ten_a', 'call_shed', ${BEGIN_NS.toString()}::numeric, ${BEGIN_NS.toString()}::numeric, 'shed', 'c', 0, 0, 0)`;
  const folder = mkdtempSync(join(tmpdir(), "millrace-export-"));
  try {
    const out = join(folder, "calls.jsonl");
    const main = fileURLToPath(new URL("../../../../cli/main.ts", import.meta.url));
    const period = ["--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:02:00Z"];
    const args = ["--disable-warning=ExperimentalWarning", main, "plan", "export", ...period, "--tenant", "ten_a", "--out", out];
    const { stderr } = await promisify(execFile)(process.execPath, args, { env: { ...process.env, DATABASE_URL: db.url } });
    const own = shipment.calls.filter((call) => call.tenant === "ten_a");
    expect(stderr).toContain(`${own.length} calls exported; 1 ended before their prompt was counted`);
    const { trace, format } = await readTrace(out, null, READ_ALL);
    expect(format).toBe("millrace");
    if (!(trace instanceof OpenTrace)) throw new Error("not an open trace");
    const sizes = Array.from({ length: trace.calls }, (_, i) => trace.call(i)).map((call) => [call.prompt_tokens, call.output_tokens]);
    expect(sizes.toSorted(bySize)).toEqual(own.map((call) => [call.tokens.prompt, call.tokens.completion]).toSorted(bySize));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
