import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import type * as Kit from "drizzle-kit/api";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../test/support/postgres.ts";
import { migrate } from "./migrate.ts";
import { seedDefaults } from "./seed.ts";

describe("migrations", () => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase();
  });
  afterAll(() => db.drop());

  const counts = () =>
    db.sql`select (select count(*) from drizzle.__drizzle_migrations) as migrations,
      (select count(*) from information_schema.tables where table_schema = 'public') as tables,
      (select count(*) from prices) as prices, (select count(*) from projects) as projects`;

  test("applied again, by four starters at once, they change nothing; nor do the seeds", async () => {
    const before = await counts();
    await Promise.all(Array.from({ length: 4 }, () => migrate(db.url)));
    await Promise.all([seedDefaults(db.url), seedDefaults(db.url)]);
    expect(await counts()).toEqual(before);
  });

  test("four starters at once bring an empty database to the same schema", async () => {
    const admin = postgres(inject("postgres_template_url").replace(/\/[^/]+$/, "/postgres"), { max: 1, onnotice: () => {} });
    const name = `empty_${process.pid}`;
    await admin.unsafe(`create database ${name}`);
    const url = db.url.replace(/\/[^/]+$/, `/${name}`);
    await Promise.all(Array.from({ length: 4 }, () => migrate(url)));
    const sql = postgres(url, { max: 1 });
    const columns = (of: postgres.Sql) => of`
      select table_name, column_name, data_type, numeric_precision, is_nullable from information_schema.columns
      where table_schema = 'public' order by table_name, column_name`;
    expect([...(await columns(sql))]).toEqual([...(await columns(db.sql))]);
    await sql.end();
    await admin.unsafe(`drop database ${name} with (force)`);
    await admin.end();
  });

  test("money and nanoseconds are NUMERIC(38,0) everywhere", async () => {
    const wrong = await db.sql`
      select table_name, column_name from information_schema.columns
      where table_schema = 'public' and (column_name like '%\\_ns' or column_name in ('quantity', 'amount') or column_name like 'per\\_%'
        or column_name like '%\\_per\\_million' or column_name ~ '^(debits|credits)_(pending|posted)$')
        and (data_type, numeric_precision, numeric_scale) is distinct from ('numeric', 38, 0)`;
    expect([...wrong]).toEqual([]);
  });
});

test("the tables say what the migrations make: nobody forgot `drizzle-kit generate`", async () => {
  // Its ES module is a CommonJS bundle that takes seconds to be looked through for exports.
  const kit: typeof Kit = createRequire(import.meta.url)("drizzle-kit/api");
  const here = import.meta.dirname;
  const files = (await readdir(path.join(here, "tables"))).filter((name) => name !== "types.ts");
  const tables = await Promise.all(files.map((name): Promise<object> => import(path.join(here, "tables", name))));
  const snapshots = (await readdir(path.join(here, "migrations", "meta"))).filter((name) => name.endsWith("_snapshot.json")).toSorted();
  const last = JSON.parse(await readFile(path.join(here, "migrations", "meta", snapshots.at(-1)!), "utf8"));
  const now = kit.generateDrizzleJson(Object.assign({}, ...tables), last.id);
  expect(await kit.generateMigration(last, now)).toEqual([]);
});

describe("append-only tables", () => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase();
  });
  afterAll(() => db.drop());

  test.each(["usage", "usage_tallies", "usage_conflicts", "calls", "transfers", "prices", "function_versions"])(
    "%s refuses change",
    async (table) => {
      const refused = /append-only/;
      await expect(db.sql.unsafe(`delete from ${table}`)).rejects.toThrow(refused);
      await expect(db.sql.unsafe(`truncate ${table} cascade`)).rejects.toThrow(refused);
    },
  );

  test("a price may not change, a provision may not be deleted", async () => {
    await expect(db.sql`update prices set note = 'cheaper'`).rejects.toThrow(/append-only/);
    await expect(db.sql`delete from provisions`).rejects.toThrow(/append-only/);
  });

  test("an administrator who says so may", async () => {
    const deleted = await db.sql.begin(async (tx) => {
      await tx`set local session_replication_role = replica`;
      return tx`delete from prices returning 1`;
    });
    expect(deleted.length).toBeGreaterThan(0);
  });

  test("a price without its amounts, or from the middle of a minute, is none", async () => {
    const price = (extra: object) => db.sql`insert into prices ${db.sql({ price: "p", currency: "EUR", version: 1, ...extra })}`;
    await expect(price({ kind: "gpu_hour", effective_from_ns: "0" })).rejects.toThrow(/prices_kind/);
    await expect(price({ kind: "gifts", effective_from_ns: "0", per_gpu_hour: "1" })).rejects.toThrow(/prices_kind/);
    await expect(price({ kind: "gpu_hour", effective_from_ns: "1", per_gpu_hour: "1" })).rejects.toThrow(/prices_minute/);
  });
});
