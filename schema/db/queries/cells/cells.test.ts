import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { acquireCell } from "./acquire-cell.ts";
import { listCells } from "./list-cells.ts";
import { releaseCell } from "./release-cell.ts";
import { renewCell } from "./renew-cell.ts";

const LONG_MS = 3_600_000;

describe("the lease of a cell (I13)", () => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase({ max: 20 });
  });
  afterAll(() => db.drop());

  test("of twenty that ask at once for a cell that nobody ever had, exactly one gets it", async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, i) => acquireCell(db.sql, { cell: "new", owner: `gw${i}`, lease_ms: LONG_MS })),
    );
    expect(outcomes.filter((o) => o.type === "acquired")).toHaveLength(1);
  });

  test("rounds of twenty connections: one owner an epoch, epochs without gap", async () => {
    const owners = new Map<number, string>();
    for (let round = 1; round <= 25; round++) {
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => acquireCell(db.sql, { cell: "raced", owner: `gw${i}`, lease_ms: LONG_MS })),
      );
      const winners = outcomes.flatMap((o, i) => (o.type === "acquired" ? [{ epoch: o.epoch, owner: `gw${i}` }] : []));
      expect(winners).toHaveLength(1);
      const { epoch, owner } = winners[0]!;
      expect(epoch).toBe(round);
      expect(owners.has(epoch)).toBe(false);
      owners.set(epoch, owner);
      for (const o of outcomes)
        if (o.type === "held" && o.owner !== "") expect(o.owner).toBe(round > 1 && o.epoch < epoch ? owners.get(o.epoch) : owner);
      expect(await releaseCell(db.sql, { cell: "raced", owner, epoch })).toBe(true);
    }
  });

  test("the same owner comes back under a new epoch, and its old epoch can renew nothing", async () => {
    const first = await acquireCell(db.sql, { cell: "back", owner: "gw", lease_ms: LONG_MS });
    const second = await acquireCell(db.sql, { cell: "back", owner: "gw", lease_ms: LONG_MS });
    expect([first, second]).toMatchObject([
      { type: "acquired", epoch: 1 },
      { type: "acquired", epoch: 2 },
    ]);
    expect(await renewCell(db.sql, { cell: "back", owner: "gw", epoch: 1, lease_ms: LONG_MS })).toEqual({ type: "lost" });
    expect(await renewCell(db.sql, { cell: "back", owner: "gw", epoch: 2, lease_ms: LONG_MS })).toMatchObject({ type: "renewed" });
    expect(await releaseCell(db.sql, { cell: "back", owner: "gw", epoch: 1 })).toBe(false);
    expect(await acquireCell(db.sql, { cell: "back", owner: "other", lease_ms: LONG_MS })).toMatchObject({
      type: "held",
      epoch: 2,
      owner: "gw",
    });
  });

  test("a lease that ran out is lost, even if nobody took it", async () => {
    await acquireCell(db.sql, { cell: "late", owner: "gw", lease_ms: 0 });
    expect(await renewCell(db.sql, { cell: "late", owner: "gw", epoch: 1, lease_ms: LONG_MS })).toEqual({ type: "lost" });
    expect(await acquireCell(db.sql, { cell: "late", owner: "other", lease_ms: LONG_MS })).toMatchObject({ type: "acquired", epoch: 2 });
    const cells = await listCells(db.sql);
    expect(cells.find((c) => c.cell === "late")).toMatchObject({ owner: "other", epoch: 2, held: true });
  });
});
