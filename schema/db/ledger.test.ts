import * as fc from "fast-check";
import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/postgres.ts";
import { BEGIN_NS, END_NS, sampleShipment } from "../../test/support/usage-events.ts";
import { nanos } from "../core/time.ts";
import type { UsageEvent } from "../core/wire/usage.ts";
import { type Shipment, createPostgresLedger, storeUsage } from "./ledger.ts";
import { acquireCell } from "./queries/cells/acquire-cell.ts";
import { upsertGroups } from "./queries/nodes/upsert-groups.ts";
import { reconcileCells } from "./queries/reports/reconcile-cells.ts";
import { USAGE_ROWS_PER_STATEMENT_MAX } from "./queries/usage/insert-usage.ts";
import { listWatermarks } from "./queries/usage/list-watermarks.ts";
import { moveWatermark } from "./queries/usage/move-watermark.ts";
import { readUsageReport } from "./usage-report.ts";

const period = { from: nanos(BEGIN_NS), to: nanos(END_NS) };

describe.each([{}, { fetch_types: false, prepare: false }])("the ledger, with a client of %j", (options) => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase({ ...options, max: 10 });
  });
  afterAll(() => db.drop());
  const ship = (shipment: Shipment) => createPostgresLedger(db.sql).ship(shipment);
  const totals = async (cell: string) => (await reconcileCells(db.sql, period)).find((c) => c.cell === cell);

  test("a shipment sent again changes nothing", async () => {
    const shipment = sampleShipment(1);
    const n = shipment.usage.length;
    expect(await ship(shipment)).toEqual({ type: "stored", inserted: n, repeated: 0, conflicts: 0 });
    const before = await totals("cell_1");
    expect(before).toMatchObject({ calls: 12, calls_without_usage: 0 });
    expect(await ship(shipment)).toEqual({ type: "stored", inserted: 0, repeated: n, conflicts: 0 });
    expect(await totals("cell_1")).toEqual(before);
  });

  test("shuffled, doubled, cut into other batches, over several connections: the same totals (I6)", async () => {
    let round = 100;
    const run = fc.asyncProperty(
      fc.nat(1_000),
      fc.array(fc.nat(), { minLength: 60, maxLength: 60 }),
      fc.integer({ min: 1, max: 4 }),
      async (seed, order, batches) => {
        round += 1;
        const plain = sampleShipment(seed, `cell_plain_${round}`);
        const mixed = sampleShipment(seed, `cell_mixed_${round}`);
        await ship(plain);
        const doubled = [...mixed.usage, ...mixed.usage.slice(0, 7)];
        const shuffled = doubled.toSorted((a, b) => order[doubled.indexOf(a) % 60]! - order[doubled.indexOf(b) % 60]!);
        const per_batch = Math.ceil(shuffled.length / batches);
        const parts = Array.from({ length: batches }, (_, i) => shuffled.slice(i * per_batch, (i + 1) * per_batch));
        const outcomes = await Promise.all(
          parts.map((usage, i) => ship({ ...mixed, usage, watermark: i === 0 ? mixed.watermark : BEGIN_NS })),
        );
        const sum = outcomes.reduce((n, o) => n + (o.type === "stored" ? o.inserted : NaN), 0);
        expect(sum).toBe(mixed.usage.length);
        expect(outcomes.every((o) => o.type === "stored" && o.conflicts === 0)).toBe(true);
        const [a, b] = [await totals(plain.cell), await totals(mixed.cell)];
        expect({ ...b, cell: "" }).toEqual({ ...a, cell: "" });
      },
    );
    await fc.assert(run, { numRuns: 15 });
  });

  test("the same id with another body is kept beside, counted, and changes nothing", async () => {
    const shipment = sampleShipment(2);
    await ship(shipment);
    const before = await totals("cell_2");
    const [event] = shipment.usage;
    const other: UsageEvent = { ...event!, quantity: (BigInt(event!.quantity) + 1n).toString(), agent: "with \0 in it" };
    for (let again = 0; again < 2; again++) {
      expect(await ship({ ...shipment, usage: [other, ...shipment.usage.slice(1)] })).toEqual({
        type: "stored",
        inserted: 0,
        repeated: shipment.usage.length - 1,
        conflicts: 1,
      });
    }
    expect(await totals("cell_2")).toEqual(before);
    expect([...(await db.sql`select payload->>'quantity' as q from usage_conflicts where id = ${event!.id}`)]).toEqual([
      { q: other.quantity },
    ]);
  });

  test("two bodies for one id in one batch: the first stays", async () => {
    const base: UsageEvent = {
      id: "use_twice",
      source: "edge",
      kind: "edge_request",
      from_ns: "1",
      to_ns: "2",
      quantity: "1",
      tenant: "ten_t",
    };
    const outcome = await ship({ ...sampleShipment(3), usage: [base, { ...base, quantity: "2" }, base] });
    expect(outcome).toEqual({ type: "stored", inserted: 1, repeated: 1, conflicts: 1 });
    expect([...(await db.sql`select quantity::text as q from usage where id = 'use_twice'`)]).toEqual([{ q: "1" }]);
  });

  test('("b-c", "d") and ("b", "c-d") are two rows; so are the same id of two sources and of two tenants, and of none', async () => {
    const base: UsageEvent = { id: "d", source: "edge", kind: "edge_request", from_ns: "1", to_ns: "2", quantity: "1" };
    const usage: UsageEvent[] = [
      { ...base, tenant: "b-c", id: "d" },
      { ...base, tenant: "b", id: "c-d" },
      { ...base, tenant: "b", id: "d" },
      { ...base, tenant: "b", id: "d", source: "gateway" },
      { ...base, id: "d" },
      { ...base, id: "c-d" },
    ];
    expect(await ship({ ...sampleShipment(4), usage })).toMatchObject({ inserted: 6, conflicts: 0 });
    expect(await ship({ ...sampleShipment(4), usage })).toMatchObject({ inserted: 0, repeated: 6, conflicts: 0 });
  });

  test("more rows than one statement takes; ten shippers of the same rows at once", async () => {
    const many: UsageEvent[] = Array.from({ length: USAGE_ROWS_PER_STATEMENT_MAX * 2 + 1 }, (_, i) => ({
      id: `use_many_${i}`,
      source: "fold",
      kind: "gpu_time",
      from_ns: BEGIN_NS.toString(),
      to_ns: END_NS.toString(),
      quantity: "1",
      cost_centre: "idle",
      cell: "cell_many",
    }));
    const shipment = { ...sampleShipment(5, "cell_many"), usage: many, calls: [] };
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, i) => ship({ ...shipment, usage: i % 2 ? many : many.toReversed() })),
    );
    const sum = (of: "inserted" | "repeated" | "conflicts") => outcomes.reduce((n, o) => n + (o.type === "stored" ? o[of] : NaN), 0);
    expect([sum("inserted"), sum("repeated"), sum("conflicts")]).toEqual([many.length, many.length * 9, 0]);
    expect((await totals("cell_many"))?.metered_gpu_ns).toEqual({ idle: BigInt(many.length) });
  });

  test("a watermark never goes back", async () => {
    await moveWatermark(db.sql, "cell_w", 10n);
    expect(await moveWatermark(db.sql, "cell_w", 5n)).toEqual({ through_ns: 10n });
    await Promise.all(Array.from({ length: 20 }, (_, i) => moveWatermark(db.sql, "cell_w", BigInt(i) * 10n ** 18n)));
    expect((await listWatermarks(db.sql)).find((w) => w.cell === "cell_w")).toEqual({ cell: "cell_w", through_ns: 19n * 10n ** 18n });
  });

  test("a provision is written once and ends once, in whatever order it is told", async () => {
    const shipment = { ...sampleShipment(6), usage: [], calls: [] };
    const [open] = shipment.provisions;
    const ended = { ...open!, released_at: BEGIN_NS + 7n };
    await ship({ ...shipment, provisions: [ended, open!] });
    await ship({ ...shipment, provisions: [open!] });
    await ship({ ...shipment, provisions: [{ ...ended, gpus: 99, released_at: BEGIN_NS + 9n }] });
    expect(await totals("cell_6")).toMatchObject({ provisioned_gpu_ns: 4n * 7n });
    await expect(db.sql`update provisions set gpus = 5 where cell = 'cell_6'`).rejects.toThrow(/recorded otherwise/);
  });

  test("groups and their instances are written once, and end once", async () => {
    const group = { group: "grp_1", cell: "c", node: "n", model: "m", role: "prefill", engine: "simulated", gpus: 2, started_at_ns: 1n };
    const instances = [
      { instance: "ins_1", gpu_indices: [0] },
      { instance: "ins_2", gpu_indices: [1] },
    ];
    await upsertGroups(db.sql, [{ ...group, ended_at_ns: null, end_reason: null, instances }]);
    await upsertGroups(db.sql, [{ ...group, ended_at_ns: 9n, end_reason: "stopped", instances }]);
    await upsertGroups(db.sql, [{ ...group, ended_at_ns: 12n, end_reason: "lost", instances }]);
    expect([
      ...(await db.sql`
        select g.ended_at_ns::text as ended, end_reason, count(*)::int as instances from instance_groups g join instances i using ("group")
        group by g."group"`),
    ]).toEqual([{ ended: "9", end_reason: "stopped", instances: 2 }]);
  });
});

describe("the reconciliation", () => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase();
    await createPostgresLedger(db.sql).ship(sampleShipment(7));
  });
  afterAll(() => db.drop());
  const read = async () => {
    const report = await readUsageReport(db.sql, { tenant: "ten_a", ...period, group_by: ["agent"] });
    return report.reconciliation;
  };

  test("is exact: metered = provisioned, to the nanosecond, with nothing missing", async () => {
    expect(await read()).toMatchObject({
      provisioned_gpu_ns: (4n * (END_NS - BEGIN_NS)).toString(),
      difference_gpu_ns: "0",
      calls: 12,
      calls_without_usage: 0,
      through: "2026-01-01T00:02:00.000000000Z",
    });
  });

  test("each usage row, deleted by an administrator, shows: any by its kind, GPU time by its exact amount, tokens by the call", async () => {
    const at = { from_ns: BEGIN_NS.toString(), to_ns: END_NS.toString() };
    const edge: UsageEvent[] = [
      { id: "use_request", source: "edge", kind: "edge_request", ...at, quantity: "1", tenant: "ten_a" },
      { id: "use_wall", source: "edge", kind: "edge_wall", ...at, quantity: "0", tenant: "ten_a" },
      { id: "use_session", source: "edge", kind: "session_time", ...at, quantity: "12345678901234567890", tenant: "ten_a" },
    ];
    await storeUsage(db.sql, edge);
    // Written again, by a shipper that had no answer: counted once.
    await storeUsage(db.sql, edge);
    const written = (await read()).usage_rows;
    for (const event of [...sampleShipment(7).usage, ...edge]) {
      const undo = new Error("undo");
      const seen = db.sql.begin(async (tx) => {
        await tx`set local session_replication_role = replica`;
        await tx`delete from usage where id = ${event.id}`;
        const tenant = event.tenant ?? "ten_a";
        const { reconciliation } = await readUsageReport(tx, { tenant, ...period, group_by: [] });
        expect(reconciliation.usage_rows_missing).toEqual({ [event.kind]: { rows: "1", quantity: event.quantity } });
        if (tenant === "ten_a") expect(reconciliation.usage_rows).toBe(written);
        const [cell] = await reconcileCells(tx, period);
        const metered = Object.values(cell!.metered_gpu_ns).reduce((a, b) => a + b, 0n);
        expect(cell!.provisioned_gpu_ns - metered).toBe(event.kind === "gpu_time" ? BigInt(event.quantity) : 0n);
        expect(cell!.calls_without_usage).toBe(event.kind === "tokens" ? 1 : 0);
        throw undo;
      });
      await expect(seen).rejects.toBe(undo);
    }
    expect(await read()).toMatchObject({ difference_gpu_ns: "0", usage_rows: written, usage_rows_missing: {} });
  });

  test("a usage row altered by an administrator shows as the quantity that is gone", async () => {
    const undo = new Error("undo");
    const seen = db.sql.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      await tx`update usage set quantity = quantity - 5 where id = 'use_session'`;
      const report = await readUsageReport(tx, { tenant: "ten_a", ...period, group_by: [] });
      expect(report.reconciliation.usage_rows_missing).toEqual({ session_time: { rows: "0", quantity: "5" } });
      throw undo;
    });
    await expect(seen).rejects.toBe(undo);
  });

  test("counts nothing after the watermark, and a provision only while it lasted", async () => {
    const late = sampleShipment(8);
    const half = BEGIN_NS + (END_NS - BEGIN_NS) / 2n;
    await createPostgresLedger(db.sql).ship({ ...late, watermark: half });
    const cell = (await reconcileCells(db.sql, period)).find((c) => c.cell === "cell_8")!;
    expect(cell.through_ns).toBe(half);
    expect(cell.provisioned_gpu_ns).toBe(4n * (half - BEGIN_NS));
    expect(Object.values(cell.metered_gpu_ns).reduce((a, b) => a + b, 0n)).toBe(cell.provisioned_gpu_ns);
  });
});

describe("the cell under a newer epoch (I13)", () => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase({ max: 4 });
  });
  afterAll(() => db.drop());
  const acquire = (cell: string, owner: string) => acquireCell(db.sql, { cell, owner, lease_ms: 0 });
  const ship = (shipment: Shipment) => createPostgresLedger(db.sql).ship(shipment);

  test("nothing of the shipment is stored; what was shipped before stays, and the newer epoch ships", async () => {
    const shipment = sampleShipment(10);
    const [first, ...rest] = shipment.usage;
    expect(await acquire("cell_10", "a")).toMatchObject({ epoch: 1 });
    const provision = shipment.provisions.map((one) => ({ ...one, released_at: END_NS }));
    expect(await ship({ ...shipment, usage: [first!], calls: [], watermark: BEGIN_NS })).toMatchObject({ inserted: 1 });
    expect(await acquire("cell_10", "b")).toMatchObject({ epoch: 2 });
    expect(await ship({ ...shipment, usage: rest, provisions: provision })).toEqual({ type: "superseded", epoch: 2 });
    const counts = await db.sql`
      select (select count(*)::int from usage where cell = 'cell_10') as usage, (select count(*)::int from calls where cell = 'cell_10') as calls,
        (select released_at_ns from provisions where cell = 'cell_10') as released, (select through_ns::text from watermarks where cell = 'cell_10') as through`;
    expect(counts).toEqual([{ usage: 1, calls: 0, released: null, through: BEGIN_NS.toString() }]);
    // The same journal, by a gateway that came back.
    expect(await acquire("cell_10", "a")).toMatchObject({ epoch: 3 });
    expect(await ship({ ...shipment, epoch: 3 })).toMatchObject({ type: "stored", inserted: rest.length, repeated: 1 });
  });

  test("a shipper that stands still in mid-shipment is cut off: the cell can be acquired, and what it had begun is not stored", async () => {
    const shipment = sampleShipment(11);
    await acquire("cell_11", "a");
    const standing = Promise.withResolvers<void>();
    const go_on = Promise.withResolvers<void>();
    // As a stopped process does: all is written, and the commit is not sent.
    const stopped = {
      begin: (work: (tx: postgres.TransactionSql) => Promise<unknown>) =>
        db.sql.begin(async (tx) => {
          const stored = await work(tx);
          standing.resolve();
          await go_on.promise;
          return stored;
        }),
    } as unknown as postgres.Sql;
    const shipped = createPostgresLedger(stopped).ship(shipment);
    await standing.promise;
    expect(await acquire("cell_11", "b")).toMatchObject({ type: "acquired", epoch: 2 });
    go_on.resolve();
    expect(await shipped).toMatchObject({ type: "unavailable" });
    expect(await db.sql`select 1 from usage where cell = 'cell_11'`).toHaveLength(0);
  });
});

test("a ledger that cannot reach its database says so, and leaves the rest to the shipper", async () => {
  const db = await freshDatabase({ max: 1, connect_timeout: 2 });
  const ledger = createPostgresLedger(db.sql);
  await db.sql`select 1`;
  await db.drop();
  expect(await ledger.ship(sampleShipment(9))).toMatchObject({ type: "unavailable" });
});
