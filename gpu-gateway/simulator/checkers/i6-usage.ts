/**
 * I6: the same usage in any order, duplicated or re-batched, gives the same totals. A store that keeps the first row of each (tenant, source,
 * id), as the table does, is fed what the run shipped, as it was shipped; another the same rows shuffled, some of them twice, in other
 * batches; a third what a fold over the whole journal gives. All three hold the same rows, and no id ever has two bodies.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { UsageEvent } from "../../../schema/core/wire/usage.ts";
import type { Refolded } from "../sim/meter.ts";
import { Random } from "../sim/random.ts";
import { Books } from "./checker.ts";

export class UsageChecker extends Books {
  readonly invariant = "I6";
  readonly #shipped = new Store();
  readonly #sent: UsageEvent[] = [];
  readonly #seed: number;
  #refolded: readonly UsageEvent[] = [];

  constructor(seed: number) {
    super();
    this.#seed = seed;
  }

  shipped(rows: readonly UsageEvent[], now: Micros): void {
    for (const row of rows) this.check(this.#shipped.add(row), now, () => `row ${row.id} was shipped with two bodies`);
    this.#sent.push(...rows);
  }

  refolded({ rows }: Refolded): void {
    this.#refolded = rows;
  }

  override end(now: Micros): void {
    const totals = this.#shipped.totals();
    for (const row of this.#refolded)
      this.check(this.#shipped.has(row), now, () => `row ${row.id} is given by the journal, and was not shipped so`);
    this.check(
      this.#shipped.size === this.#refolded.length,
      now,
      () => `${this.#shipped.size} rows are in the ledger, the journal gives ${this.#refolded.length}`,
    );
    this.#same(totals, storeOf(this.#refolded).totals(), now, "what a fold over the journal gives");
    this.#same(totals, storeOf(this.#shuffled()).totals(), now, "the same rows shuffled, some twice");
  }

  #same(a: ReadonlyMap<string, bigint>, b: ReadonlyMap<string, bigint>, now: Micros, what: string): void {
    for (const key of new Set([...a.keys(), ...b.keys()]))
      this.check(
        a.get(key) === b.get(key),
        now,
        () => `${key} adds up to ${a.get(key)} as it was shipped, and to ${b.get(key)} by ${what}`,
      );
  }

  #shuffled(): UsageEvent[] {
    const random = new Random(this.#seed, "usage");
    const rows = this.#sent.flatMap((row) => (random.chance(30) ? [row, row] : [row]));
    for (let last = rows.length - 1; last > 0; last--) {
      const other = random.below(last + 1);
      const [a, b] = [rows[last], rows[other]];
      if (a !== undefined && b !== undefined) [rows[last], rows[other]] = [b, a];
    }
    return rows;
  }
}

class Store {
  readonly #rows = new Map<string, string>();
  readonly #totals = new Map<string, bigint>();

  get size(): number {
    return this.#rows.size;
  }

  has(row: UsageEvent): boolean {
    return this.#rows.get(keyOf(row)) === JSON.stringify(row);
  }

  /** False: another row has its id. */
  add(row: UsageEvent): boolean {
    const key = keyOf(row);
    const body = JSON.stringify(row);
    const known = this.#rows.get(key);
    if (known !== undefined) return known === body;
    this.#rows.set(key, body);
    const of = [row.tenant ?? "-", row.kind, row.call ?? row.cost_centre ?? "-"].join(" ");
    const tokens = row.tokens === undefined ? 0 : row.tokens.prompt + row.tokens.completion;
    this.#totals.set(of, (this.#totals.get(of) ?? 0n) + BigInt(row.quantity) + BigInt(tokens));
    return true;
  }

  totals(): ReadonlyMap<string, bigint> {
    return this.#totals;
  }
}

/** As the table's. */
const keyOf = (row: UsageEvent): string => JSON.stringify([row.tenant ?? "-", row.source, row.id]);

function storeOf(rows: readonly UsageEvent[]): Store {
  const store = new Store();
  for (const row of rows) store.add(row);
  return store;
}
