/**
 * Brings a database to this version of the schema. Harmless to repeat; two starters at once wait for each other, by an advisory
 * lock on the one connection that migrates. Node only: the migrations are files beside this one.
 */
import path from "node:path";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as apply } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";

/** Any number will do that nobody else locks in this database. */
const MIGRATION_LOCK = 7_113_552_201;

export async function migrate(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql`select pg_advisory_lock(${MIGRATION_LOCK}::bigint)`;
    await apply(drizzle(sql), { migrationsFolder: path.join(import.meta.dirname, "migrations") });
  } finally {
    // The lock goes with the connection, also when a migration failed.
    await sql.end();
  }
}
