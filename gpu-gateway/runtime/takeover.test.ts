/**
 * Gateways that take a cell from one another on a real Postgres, each with a journal of its own that may be lost: whatever the order, what is
 * metered is what was provisioned, and a gap is on `lost`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { asId, type CellId } from "../../schema/core/ids.ts";
import { nanos } from "../../schema/core/time.ts";
import { createPostgresLedger } from "../../schema/db/ledger.ts";
import { acquireCell } from "../../schema/db/queries/cells/acquire-cell.ts";
import { reconcileCells } from "../../schema/db/queries/reports/reconcile-cells.ts";
import { freshDatabase, type FreshDatabase } from "../../test/support/postgres.ts";
import { until } from "../../test/support/until.ts";
import { readStanding } from "../standing.ts";
import type { Ledger } from "../ports/ledger.ts";
import { createMeter, type Meter } from "./meter.ts";
import { accept, announce, NODE, PROVISION, serve } from "./meter.test-support.ts";
import { createShipper } from "./shipper.ts";

const START = 1_795_000_050_000_000_000n;
const MS = 1_000_000n;
const SECOND = 1_000n * MS;

let db: FreshDatabase;
let dir = "";
let cell: CellId;
let cells = 0;
let now = START;
let anomalies: string[] = [];
let superseded: string[] = [];
/** How many more shipments the ledger takes before it cannot be reached. */
let shipments_left = Infinity;

beforeAll(async () => {
  db = await freshDatabase();
  dir = await mkdtemp(join(tmpdir(), "millrace-takeover-"));
}, 60_000);
afterAll(async () => {
  await db.drop();
  await rm(dir, { recursive: true, force: true });
}, 60_000);
beforeEach(() => {
  cell = asId<"cell">(`cell_${++cells}`);
  now = START;
  anomalies = [];
  superseded = [];
  shipments_left = Infinity;
});

const ledger: Ledger = {
  ship(shipment) {
    if (shipments_left <= 0) return Promise.resolve({ type: "unavailable", reason: "gone" });
    shipments_left -= 1;
    return createPostgresLedger(db.sql).ship(shipment);
  },
};
const folder = (owner: string) => join(dir, cell, owner);

async function own(owner: string, provisioned_at = START, skew_ns = 0n): Promise<Meter> {
  const lease = await acquireCell(db.sql, { cell, owner, lease_ms: 0 });
  const meter = await createMeter({
    journal_dir: folder(owner),
    cell,
    epoch: lease.epoch,
    boot_id: `${owner}_${now}`,
    standing: await readStanding(db.sql, cell),
    startShipper: (parts) => createShipper({ ...parts, ledger, shipment_rows_max: 4 }),
    renew: () => Promise.resolve(new Map([[NODE, nanos(now + 10n * SECOND)]])),
    on_failure: (reason) => expect.unreachable(reason),
    on_anomaly: (detail) => void anomalies.push(detail),
    on_superseded: (reason) => void superseded.push(reason),
    clock: { wall_now_ns: () => now + skew_ns, hrtime_ns: () => now },
  });
  for (const call of meter.open_calls)
    meter.record({ type: "call_ended", call, outcome: "failed", code: "gateway_lost", tokens: { prompt: 0, cached: 0, completion: 0 } });
  if (provisioned_at <= now) announce(meter, nanos(provisioned_at));
  return meter;
}
/** Dies where it stands: of its last rows the ledger gets `shipments`, and no watermark that it had not. */
async function die(meter: Meter, shipments: number): Promise<void> {
  shipments_left = shipments;
  await meter.close();
  shipments_left = Infinity;
}
let calls = 0;
async function work(meter: Meter, times: number, cut_every: number): Promise<void> {
  for (let i = 1; i <= times; i++) {
    const call = `call_${++calls}`;
    accept(meter, call);
    now += 700n * MS;
    serve(meter, call);
    if (i % cut_every === 0) await meter.cut();
  }
}
async function books() {
  const [found] = await reconcileCells(db.sql, { from: nanos(0n), to: nanos(now * 2n) }).then((all) =>
    all.filter((one) => one.cell === cell),
  );
  if (found === undefined) throw new Error("no books");
  const metered = Object.values(found.metered_gpu_ns).reduce((sum, ns) => sum + ns, 0n);
  return { ...found, difference: metered - found.provisioned_gpu_ns, lost: found.metered_gpu_ns["lost"] ?? 0n };
}

test.each([0, 1, 3])("another machine takes over; %i shipments past the watermark are in the books already", async (shipments) => {
  const first = await own("a");
  await work(first, 6, 3);
  expect((await first.settle()).type).toBe("settled");
  const { through_ns: watermark } = await books();
  await work(first, 6, 100);
  await die(first, shipments);
  now += 90n * SECOND;
  const boot = now;

  const second = await own("b");
  await work(second, 3, 3);
  expect((await second.settle()).type).toBe("settled");
  const after = await books();
  expect(after.difference).toBe(0n);
  expect(after.provisioned_gpu_ns).toBe((after.through_ns - START) * 4n);
  const [past] = await db.sql`
    select coalesce(sum(quantity), 0)::text as ns from usage
    where cell = ${cell} and kind = 'gpu_time' and from_ns >= ${watermark.toString()} and to_ns < ${boot.toString()} and coalesce(cost_centre, '') <> 'lost'`;
  expect(BigInt(String(past?.["ns"])) > 0n).toBe(shipments > 0);
  // All between the watermark and the boot that is in no row of the first's; the nanoseconds are the line's.
  expect((after.lost - ((boot - watermark) * 4n - BigInt(String(past?.["ns"])))) / MS).toBe(0n);
  expect(anomalies).toEqual([]);
  await second.close();
});

/** Another session of the database, which stands where it waits for a lock; a row of ours is locked until `go`. */
async function lockRow(table: "provisions" | "watermarks"): Promise<() => Promise<void>> {
  const [locked, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const ended = db.sql.begin(async (tx) => {
    await tx`select 1 from ${tx(table)} where cell = ${cell} for update`;
    locked.resolve();
    await go.promise;
  });
  await locked.promise;
  return async () => {
    go.resolve();
    await ended;
  };
}
/** Sessions that wait for another's lock in a statement with these words. */
const waiting = (words: string) =>
  until(`${words} waits`, async () => {
    const found = await db.sql`
      select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ilike ${`%${words}%`}`;
    return found.length > 0;
  });

test("its shipment is under way while another acquires the cell: refused, nothing is metered twice, and it ships no more", async () => {
  const first = await own("a");
  await work(first, 6, 3);
  await first.settle();
  const before = await books();
  await work(first, 6, 100);
  // A thread that stood still in mid-shipment: it goes on when its successor has read where the ledger stands.
  first.record({ type: "node_released", node: NODE, at: first.now(), provision_id: PROVISION });
  const go = await lockRow("provisions");
  const late = first.settle();
  await waiting("insert into provisions");
  now += 30n * SECOND;
  const second = await own("b");
  await go();
  expect(await late).toMatchObject({ type: "behind", reason: expect.stringContaining("under epoch 2; this one has 1") });
  expect((await books()).through_ns).toBe(before.through_ns);
  await work(second, 6, 3);
  await second.settle();
  expect(await first.settle()).toMatchObject({ type: "behind" });
  await second.settle();
  const after = await books();
  expect([after.difference, anomalies, superseded.length]).toEqual([0n, [], 1]);
  expect(after.provisioned_gpu_ns).toBe((after.through_ns - START) * 4n);
  await first.close();
  await second.close();
});

test("its shipment is through but for the end when another acquires the cell: the other waits for it, and finds it in the books", async () => {
  const first = await own("a");
  await work(first, 6, 3);
  await first.settle();
  await work(first, 2, 100);
  const rows = async () => (await db.sql`select 1 from usage where cell = ${cell}`).length;
  const before = await rows();
  const go = await lockRow("watermarks");
  const last = first.settle();
  await waiting("insert into watermarks");
  now += 30n * SECOND;
  const opening = own("b");
  await waiting("insert into cells");
  expect(await rows()).toBe(before);
  await go();
  const second = await opening;
  await last;
  expect(await rows()).toBeGreaterThan(before);
  await work(second, 6, 3);
  await second.settle();
  expect([(await books()).difference, anomalies]).toEqual([0n, []]);
  await first.close();
  await second.close();
});

test("its own restart takes nothing over: calls keep what they used, also where the position was not saved", async () => {
  const first = await own("a");
  await work(first, 6, 3);
  await first.settle();
  await work(first, 6, 2);
  await die(first, 2);
  await rm(join(folder("a"), "shipped.json"));
  now += SECOND;
  const again = await own("a");
  await again.settle();
  const { difference, lost, calls: ended } = await books();
  expect([difference, ended, anomalies]).toEqual([0n, 12, []]);
  expect(lost / SECOND).toBe(3n); // the second in which nobody was there, on four GPUs
  await again.close();
});

test("the first comes back after another: what it had not shipped is not metered a second time, and it ends the calls that it left", async () => {
  const first = await own("a");
  await work(first, 6, 3);
  await first.settle();
  await work(first, 6, 100);
  accept(first, "call_left");
  await die(first, 1);
  now += 30n * SECOND;
  const second = await own("b");
  await work(second, 6, 3);
  await die(second, 2);
  now += 30n * SECOND;
  const third = await own("a");
  expect(third.open_calls).toEqual(["call_left"]);
  await third.settle();
  expect((await books()).difference).toBe(0n);
  expect(anomalies).toEqual([expect.stringContaining("another gateway metered this cell meanwhile")]);
  await third.close();
  // What of its journal was not shipped before the other came is not shipped when all is read again, either.
  await rm(join(folder("a"), "shipped.json"));
  now += SECOND;
  const fourth = await own("a");
  await fourth.settle();
  expect((await books()).difference).toBe(0n);
  expect(anomalies).toHaveLength(1);
  await fourth.close();
});

test("one that took over and showed nobody takes over again: another may have been there unseen", async () => {
  const first = await own("a");
  await work(first, 6, 3);
  await first.settle();
  await work(first, 6, 100);
  await die(first, 1);
  const second = await own("b");
  await work(second, 3, 3);
  await die(second, 0);
  now += SECOND;
  const back = await own("a");
  await work(back, 3, 100);
  await die(back, 2);
  const third = await own("b");
  await third.settle();
  expect((await books()).difference).toBe(0n);
  await third.close();
});

test("a provision that began while nobody looked is `lost` until the boot", async () => {
  const first = await own("a");
  first.record({ type: "node_released", node: NODE, at: first.now(), provision_id: PROVISION });
  await first.settle();
  await first.close();
  const at = now + 5n * SECOND;
  now += 15n * SECOND;
  const second = await own("b", START * 2n);
  second.record({ type: "node_provisioned", node: NODE, gpus: 2, at: nanos(at), provision_id: "prov_b" });
  now += 20n * SECOND;
  await second.settle();
  const { difference, metered_gpu_ns } = await books();
  expect(difference).toBe(0n);
  expect([(metered_gpu_ns["lost"] ?? 0n) / SECOND, ((metered_gpu_ns["unassigned"] ?? 0n) + MS) / SECOND]).toEqual([20n, 40n]);
  expect(anomalies).toEqual([]);
  await second.close();
});

test.each([1, 2, 3, 4, 18, 21, 26, 35, 51, 63, 65, 67])(
  "any sequence of takeovers, with lost journals and deaths between shipments (seed %i): metered = provisioned",
  async (seed) => {
    let random = seed;
    const pick = (below: number): number => {
      random = (random * 1_103_515_245 + 12_345) & 0x7fffffff;
      return (random >> 8) % below;
    };
    for (let stint = 0; stint < 8; stint++) {
      const owner = `gateway_${pick(3)}`;
      if (pick(4) === 0) await rm(folder(owner), { recursive: true, force: true });
      if (pick(6) === 0) await rm(join(folder(owner), "shipped.json"), { force: true });
      // Machines' clocks differ.
      const meter = await own(owner, START, BigInt(pick(10_000) - 5_000) * MS);
      await work(meter, pick(8), 1 + pick(4));
      if (pick(2) === 0) await meter.settle();
      await work(meter, pick(5), 100);
      await die(meter, pick(4));
      now += BigInt(pick(100_000)) * MS;
    }
    const last = await own("last");
    last.record({ type: "node_released", node: NODE, at: last.now(), provision_id: PROVISION });
    now += SECOND;
    expect((await last.settle()).type).toBe("settled");
    const { difference, through_ns } = await books();
    expect([difference, through_ns >= now]).toEqual([0n, true]);
    expect(anomalies.filter((detail) => !detail.startsWith("another gateway metered"))).toEqual([]);
    await last.close();
  },
);
