/**
 * Gateways that take a cell from one another on a real Postgres, each with a journal of its own that may be lost; the nodes' own records state
 * their closed provisions again at each claim. Whatever the order, what is metered is what was provisioned, and a gap is on `lost`.
 */
import { existsSync, mkdirSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { asId, type CellId, type NodeId } from "../../schema/core/ids.ts";
import { nanos } from "../../schema/core/time.ts";
import { createPostgresLedger } from "../../schema/db/ledger.ts";
import { acquireCell } from "../../schema/db/queries/cells/acquire-cell.ts";
import { reconcileCells } from "../../schema/db/queries/reports/reconcile-cells.ts";
import { freshDatabase, type FreshDatabase } from "../../test/support/postgres.ts";
import { until } from "../../test/support/until.ts";
import { PROVISIONS_REPORTED_MAX } from "../node-agent/limits.ts";
import { ProvisionRecord } from "../node-agent/provisions.ts";
import { RELEASES_REMEMBERED_MAX } from "../policy/metering/nodes.ts";
import { readStanding } from "../standing.ts";
import type { Ledger } from "../ports/ledger.ts";
import { createMeter, type Meter } from "./meter.ts";
import { accept, NODE, PROVISION, serve, startGroup } from "./meter.test-support.ts";
import { ProvisionBook } from "./provisions.ts";
import { createShipper } from "./shipper.ts";

const START = 1_795_000_050_000_000_000n;
const MS = 1_000_000n;
const SECOND = 1_000n * MS;

let db: FreshDatabase;
let dir = "";
let cell: CellId;
let cells = 0;
let now = START;
/** The nodes' own records. */
let agent: ProvisionRecord;
let spare: ProvisionRecord;
let provisions = 0;
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
  mkdirSync(join(dir, cell));
  agent = new ProvisionRecord(join(dir, cell, "node.jsonl"), "agent");
  spare = new ProvisionRecord(join(dir, cell, "spare.jsonl"), "agent");
  agent.begin(PROVISION, NODE, 4, nanos(START));
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
const SPARE = asId<"node">("node_spare");
const stated = (): readonly ProvisionRecord[] => [agent, spare];
const begin = (record: ProvisionRecord, node: NodeId, gpus: number) => record.begin(`prov_${++provisions}`, node, gpus, nanos(now));
const end = (record: ProvisionRecord) => record.end(nanos(now), "over");

async function own(owner: string, skew_ns = 0n): Promise<Meter> {
  const lease = await acquireCell(db.sql, { cell, owner, lease_ms: 0 });
  const meter = await createMeter({
    journal_dir: folder(owner),
    cell,
    epoch: lease.epoch,
    boot_id: `${owner}_${now}`,
    standing: await readStanding(db.sql, cell),
    startShipper: (parts) => createShipper({ ...parts, ledger, shipment_rows_max: 4 }),
    renew: () => Promise.resolve(new Map([NODE, SPARE].map((node) => [node, nanos(now + 10n * SECOND)]))),
    on_failure: (reason) => expect.unreachable(reason),
    on_anomaly: (detail) => void anomalies.push(detail),
    on_superseded: (reason) => void superseded.push(reason),
    clock: { wall_now_ns: () => now + skew_ns, hrtime_ns: () => now },
  });
  for (const call of meter.open_calls)
    meter.record({ type: "call_ended", call, outcome: "failed", code: "gateway_lost", tokens: { prompt: 0, cached: 0, completion: 0 } });
  const book = new ProvisionBook(meter);
  for (const record of stated()) for (const provision of record.recent()) book.state(provision);
  if (agent.open?.gpus === 4) startGroup(meter, agent.open.provision_id);
  return meter;
}
/** While this gateway has the cell, its nodes give their GPUs back and get others. */
function turnOver(meter: Meter, nodes: readonly NodeId[]): void {
  const book = new ProvisionBook(meter);
  if (nodes.includes(NODE) && agent.open !== null) {
    meter.record({ type: "group_ended", group: asId<"group">(`grp_${agent.open.provision_id}`), reason: "stopped" });
    book.state(end(agent));
    now += 300n * MS;
    const next = begin(agent, NODE, 4);
    book.state(next);
    startGroup(meter, next.provision_id);
  }
  if (!nodes.includes(SPARE)) return;
  book.state(spare.open === null ? begin(spare, SPARE, 2) : end(spare));
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
  new ProvisionBook(first).state(agent.end(first.now(), "over"));
  await first.settle();
  await first.close();
  now += 5n * SECOND;
  begin(agent, NODE, 2);
  now += 10n * SECOND;
  const second = await own("b");
  now += 20n * SECOND;
  await second.settle();
  const { difference, metered_gpu_ns } = await books();
  expect(difference).toBe(0n);
  expect([(metered_gpu_ns["lost"] ?? 0n) / SECOND, ((metered_gpu_ns["unassigned"] ?? 0n) + MS) / SECOND]).toEqual([20n, 40n]);
  expect(anomalies).toEqual([]);
  await second.close();
});

test("a node states its closed provisions again at each claim: none is metered again, whoever takes over, with what journal", async () => {
  const first = await own("a");
  for (let round = 0; round < 4; round++) {
    await work(first, 2, 1);
    turnOver(first, [NODE, SPARE]);
  }
  await work(first, 2, 100);
  await first.settle();
  const before = await books();
  await first.close();
  await cp(folder("a"), folder("a_old"), { recursive: true });

  // With an empty journal, twice; then with the first's own, and with an old copy of that.
  for (const owner of ["b", "a", "b", "lost", "a_old", "b"]) {
    now += 20n * SECOND;
    const next = await own(owner);
    await work(next, 3, 2);
    turnOver(next, [NODE]);
    expect((await next.settle()).type).toBe("settled");
    const after = await books();
    expect([owner, after.difference]).toEqual([owner, 0n]);
    // Nothing was provisioned but what is open now and was closed since: each second on six GPUs at most.
    expect(after.provisioned_gpu_ns - before.provisioned_gpu_ns).toBeLessThanOrEqual((after.through_ns - before.through_ns) * 6n);
    await next.close();
  }
  expect(agent.recent().length + spare.recent().length).toBe(13);
  expect(anomalies.filter((detail) => !detail.startsWith("another gateway metered"))).toEqual([]);
});

test("a node states fewer closed provisions than are recognised: of sixteen nodes, all", () => {
  expect(PROVISIONS_REPORTED_MAX * 16).toBeLessThanOrEqual(RELEASES_REMEMBERED_MAX);
});

test("of more closed provisions than are remembered, the latest are", async () => {
  const first = await own("a");
  await work(first, 2, 2);
  await first.settle();
  await first.close();
  await db.sql`
    insert into provisions (cell, provision, node, gpus, provisioned_at_ns, released_at_ns, reported_by)
    select ${cell}, 'old_' || n, 'node_old', 1, ${START.toString()}::numeric - 2 * n, ${START.toString()}::numeric - 2 * n + 1, 'agent'
    from generate_series(1, ${RELEASES_REMEMBERED_MAX + 10}) n`;
  const standing = await readStanding(db.sql, cell);
  expect(standing?.released).toHaveLength(RELEASES_REMEMBERED_MAX);
  expect([standing?.released[0], standing?.released.at(-1)]).toEqual([`old_${RELEASES_REMEMBERED_MAX}`, "old_1"]);
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
      // An old copy of the journal comes back.
      const copy = folder(`${owner}_copy`);
      if (pick(4) === 0 && existsSync(copy)) {
        await rm(folder(owner), { recursive: true, force: true });
        await cp(copy, folder(owner), { recursive: true });
      }
      if (pick(6) === 0) await rm(join(folder(owner), "shipped.json"), { force: true });
      // Machines' clocks differ.
      const meter = await own(owner, BigInt(pick(10_000) - 5_000) * MS);
      await work(meter, pick(8), 1 + pick(4));
      if (pick(2) === 0) turnOver(meter, pick(2) === 0 ? [NODE] : [NODE, SPARE]);
      if (pick(2) === 0) await meter.settle();
      await work(meter, pick(5), 100);
      if (pick(3) === 0) turnOver(meter, [NODE]);
      await die(meter, pick(4));
      if (pick(3) === 0 && existsSync(folder(owner))) await cp(folder(owner), copy, { recursive: true, force: true });
      now += BigInt(1 + pick(100_000)) * MS;
      // Its lease is over, and nobody looks.
      if (pick(3) === 0) {
        end(agent);
        now += BigInt(pick(20_000)) * MS;
        begin(agent, NODE, 4);
      }
    }
    const last = await own("last");
    const book = new ProvisionBook(last);
    for (const record of stated()) if (record.open !== null) book.state(record.end(last.now(), "over"));
    now += SECOND;
    expect((await last.settle()).type).toBe("settled");
    const { difference, through_ns } = await books();
    expect([difference, through_ns >= now]).toEqual([0n, true]);
    expect(anomalies.filter((detail) => !detail.startsWith("another gateway metered"))).toEqual([]);
    await last.close();
  },
);
