/** A database of one's own, cloned from the run's migrated template (postgres-global.ts must be the project's globalSetup). */
import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";

export type FreshDatabase = {
  /** The owner's URL, a superuser's: hand it to what is under test. */
  readonly url: string;
  readonly sql: postgres.Sql;
  /** Ends `sql`, throws everybody else out, drops the database. */
  drop(): Promise<void>;
};

export async function freshDatabase(options: postgres.Options<{}> = {}): Promise<FreshDatabase> {
  const template_url = new URL(inject("postgres_template_url"));
  const template = template_url.pathname.slice(1);
  const name = `t_${process.pid}_${randomBytes(6).toString("hex")}`;
  const admin_url = new URL(template_url);
  admin_url.pathname = "/postgres";
  await administer(admin_url.href, `create database ${name} template ${template}`);
  const url = new URL(template_url);
  url.pathname = `/${name}`;
  const sql = postgres(url.href, { onnotice: () => {}, ...options });
  return {
    url: url.href,
    sql,
    drop: async () => {
      await sql.end({ timeout: 1 });
      await administer(admin_url.href, `drop database ${name} with (force)`);
    },
  };
}

async function administer(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}
