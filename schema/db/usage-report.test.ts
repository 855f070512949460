import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/postgres.ts";
import { BEGIN_NS, END_NS, sampleShipment } from "../../test/support/usage-events.ts";
import { nanoMoney } from "../core/money.ts";
import { EXAMPLE_PRICES, type GpuPrice, type TokenPrice } from "../core/rating/prices.ts";
import { NANOS_PER_MINUTE, nanos } from "../core/time.ts";
import { USAGE_GROUPS, type UsageGroup, usageReport } from "../core/wire/http.ts";
import type { UsageEvent } from "../core/wire/usage.ts";
import { createPostgresLedger, storeUsage } from "./ledger.ts";
import { deployVersion } from "./queries/functions/deploy-version.ts";
import { insertPrices } from "./queries/reports/insert-prices.ts";
import { sumUsage } from "./queries/reports/sum-usage.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "./seed.ts";
import { readUsageReport } from "./usage-report.ts";

const period = { from: nanos(BEGIN_NS), to: nanos(END_NS) };
const gpu_price = EXAMPLE_PRICES.find((p): p is GpuPrice => p.kind === "gpu_hour")!;
const token_price = EXAMPLE_PRICES.find((p): p is TokenPrice => p.kind === "tokens")!;

// As Node connects, and as a Worker does through Hyperdrive.
describe.each([{}, { fetch_types: false, prepare: false }])("the usage report, with a client of %j", (options) => {
  let db: FreshDatabase;
  const shipment = sampleShipment(1);
  const own = shipment.usage.filter((e) => e.tenant === "ten_a");
  const sum = (of: (e: UsageEvent) => bigint) => own.reduce((n, e) => n + of(e), 0n);
  beforeAll(async () => {
    db = await freshDatabase(options);
    await createPostgresLedger(db.sql).ship(shipment);
  });
  afterAll(() => db.drop());
  const read = (group_by: UsageGroup[], extra = {}) => readUsageReport(db.sql, { tenant: "ten_a", ...period, group_by, ...extra });

  test("adds up a tenant's own rows and nobody else's (I3)", async () => {
    const report = await read(["agent"]);
    expect(usageReport.parse(report)).toEqual(report);
    const leg = (state: string) => sum((e) => (e.leg_state === state ? BigInt(e.quantity) : 0n)).toString();
    expect(report.total).toMatchObject({
      calls: 6,
      prompt_tokens: sum((e) => BigInt(e.tokens?.prompt ?? 0)).toString(),
      cached_tokens: sum((e) => BigInt(e.tokens?.cached ?? 0)).toString(),
      completion_tokens: sum((e) => BigInt(e.tokens?.completion ?? 0)).toString(),
      prefill_gpu_ns: leg("prefill"),
      decode_gpu_ns: leg("decode"),
      holding_gpu_ns: leg("holding"),
    });
    expect(report).not.toHaveProperty("unpriced");
    expect(report.reconciliation.difference_gpu_ns).toBe("0");
  });

  test("has the same total however it is grouped, by any one or two keys", async () => {
    const { total } = await read([]);
    expect(total.cost).not.toBe("0");
    for (const first of USAGE_GROUPS) {
      expect((await read([first])).total, first).toEqual(total);
      for (const second of USAGE_GROUPS) if (first < second) expect((await read([first, second])).total).toEqual(total);
    }
    const by = await read(["agent", "day"]);
    expect(by.rows.map((row) => row.key)).toEqual(by.rows.map(() => ({ agent: expect.stringMatching(/^agent \d$/), day: "2026-01-01" })));
  });

  test("narrows to one run; runs together are the whole", async () => {
    const whole = await read(["run"]);
    for (const row of whole.rows) {
      const { total } = await read([], { run: row.key["run"] });
      expect(total).toMatchObject({ calls: row.calls, decode_gpu_ns: row.decode_gpu_ns, prompt_tokens: row.prompt_tokens });
    }
    expect(await read([], { run: "run_none" })).toMatchObject({ rows: [], total: { calls: 0, cost: "0", charge: "0" } });
  });

  test("names a function beside its id", async () => {
    const config = { timeout_ms: 1 };
    const project = { tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT };
    const { function: id } = await deployVersion(db.sql, { ...project, name: "swarm", code: "x", config, alias: "live" });
    const tags = { tenant: "ten_f", function: id, call: "call_f", model: "m" };
    const at = { from_ns: BEGIN_NS.toString(), to_ns: (BEGIN_NS + 1n).toString() };
    await storeUsage(db.sql, [
      { id: "use_f", source: "gateway", kind: "tokens", ...at, quantity: "3", ...tags, tokens: { prompt: 2, cached: 1, completion: 1 } },
    ]);
    const report = await readUsageReport(db.sql, { tenant: "ten_f", ...period, group_by: ["function"] });
    expect(report.rows).toMatchObject([{ key: { function: id, function_name: "swarm" }, calls: 1 }]);
  });

  test("sums what the edge says, apart", async () => {
    const at = { from_ns: BEGIN_NS.toString(), to_ns: END_NS.toString(), source: "edge" as const, tenant: "ten_e" };
    const stored = await storeUsage(db.sql, [
      { ...at, id: "e1", kind: "edge_request", quantity: "1" },
      { ...at, id: "e2", kind: "edge_request", quantity: "1" },
      { ...at, id: "e3", kind: "edge_wall", quantity: "12345678901234567890" },
      { ...at, id: "e4", kind: "session_time", quantity: "7" },
      { ...at, id: "e5", kind: "tool_call", quantity: "1" },
    ]);
    expect(stored).toEqual({ inserted: 5, repeated: 0, conflicts: 0 });
    const { edge } = await readUsageReport(db.sql, { tenant: "ten_e", ...period, group_by: [] });
    expect(edge).toEqual({ requests: "2", wall_ns: "12345678901234567890", session_ns: "7", tool_calls: "1" });
  });

  test("rates each use by the price in force then: the exact one before the general, the later before the earlier", async () => {
    const minute = BEGIN_NS + NANOS_PER_MINUTE;
    const at = (price: string, from: bigint) => ({ price, currency: "USD" as const, version: 1, note: "", effective_from_ns: nanos(from) });
    await insertPrices(db.sql, [
      { ...gpu_price, ...at("all", 0n) },
      { ...gpu_price, ...at("later", minute) },
      { ...gpu_price, ...at("cell", 0n), cell: "cell_exact" },
      { ...gpu_price, ...at("future", END_NS) },
      { ...token_price, ...at("tokens", 0n), model: "other" },
    ]);
    await createPostgresLedger(db.sql).ship(sampleShipment(2, "cell_exact", ["ten_x"]));
    const priced = async (tenant: string) => {
      const parts = await sumUsage(db.sql, { tenant, ...period, group_by: [], currency: "USD" });
      return new Set(parts.map((part) => part.price));
    };
    expect(await priced("ten_a")).toEqual(new Set(["all", "later", null]));
    expect(await priced("ten_x")).toEqual(new Set(["cell", null]));
    const report = await readUsageReport(db.sql, { tenant: "ten_x", ...period, group_by: [], currency: "USD" });
    expect(report.unpriced).toMatchObject({ gpu_ns: "0" });
    expect(report.total).toMatchObject({ charge: "0", cost: expect.not.stringMatching(/^0$/) });
  });

  test("a price once written stays as it is", async () => {
    await insertPrices(db.sql, [{ ...gpu_price, per_gpu_hour: nanoMoney(1n) }]);
    const [row] = await db.sql`select per_gpu_hour::text as p from prices where price = ${gpu_price.price}`;
    expect(row).toEqual({ p: gpu_price.per_gpu_hour.toString() });
  });
});
