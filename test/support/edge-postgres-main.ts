/**
 * A migrated Postgres with two tenants, as a process: prints what tests need as one line and lives until its standard input ends.
 * Tenant a has a key for each scope, and one for all; tenant b has one for all, and so has `sibling`, another project of tenant a's.
 */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import postgres from "postgres";
import { startPostgres } from "../../cli/dev/postgres.ts";
import { KEY_ENTROPY_BYTES, mintKey } from "../../schema/core/keys.ts";
import { SCOPES, type Scope } from "../../schema/core/wire/token.ts";
import { migrate } from "../../schema/db/migrate.ts";
import { createKey } from "../../schema/db/queries/keys/create-key.ts";
import { ensureProject } from "../../schema/db/queries/tenants/ensure-project.ts";
import { seedDefaults } from "../../schema/db/seed.ts";

export type EdgePostgres = {
  readonly url: string;
  readonly a: { readonly tenant: string; readonly project: string; readonly all: string } & Readonly<Record<Scope, string>>;
  readonly b: { readonly tenant: string; readonly project: string; readonly all: string };
  readonly sibling: { readonly tenant: string; readonly project: string; readonly all: string };
};

const dir = path.join(os.tmpdir(), `millrace-edge-postgres-${process.pid}-${randomBytes(4).toString("hex")}`);
const running = await startPostgres({ dir, durable: false, connections_max: 300 });
await migrate(running.url);
await seedDefaults(running.url);
const sql = postgres(running.url, { max: 1, onnotice: () => {} });

async function tenant(name: string, project = name): Promise<{ tenant: string; project: string }> {
  const of = { tenant: `ten_${name}`, project: `prj_${project}` };
  await ensureProject(sql, { ...of, tenant_name: name, project_name: project });
  return of;
}
async function key(of: { tenant: string; project: string }, name: string, scopes: readonly Scope[]): Promise<string> {
  const minted = mintKey(randomBytes(KEY_ENTROPY_BYTES));
  await createKey(sql, { ...of, key: minted.key, secret_hash: minted.secret_hash, name, scopes, expires_at: null });
  return minted.text;
}

const a = await tenant("a");
const b = await tenant("b");
const sibling = await tenant("a", "sibling");
const each: Record<string, string> = {};
for (const scope of SCOPES) each[scope] = await key(a, scope, [scope]);
const provided: EdgePostgres = {
  url: running.url,
  a: { ...a, all: await key(a, "all", SCOPES), ...(each as Record<Scope, string>) },
  b: { ...b, all: await key(b, "all", SCOPES) },
  sibling: { ...sibling, all: await key(sibling, "all", SCOPES) },
};
await sql.end();

process.stdout.write(`${JSON.stringify(provided)}\n`);
process.stdin.resume();
process.stdin.on("end", () => {
  void running
    .stop()
    .then(() => (running.home === null ? undefined : rm(running.home, { recursive: true, force: true })))
    .then(() => rm(dir, { recursive: true, force: true }));
});
