import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FreshDatabase, freshDatabase } from "../../../../test/support/postgres.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "../../seed.ts";
import { ensureProject } from "../tenants/ensure-project.ts";
import { deployVersion } from "./deploy-version.ts";
import { findVersion } from "./find-version.ts";
import { listFunctions } from "./list-functions.ts";
import { resolveVersion } from "./resolve-version.ts";

const project = { tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT };
const config = { timeout_ms: 1_000, egress: ["a.example"], isolation: "version" };
const swarm = { ...project, name: "swarm", alias: "live", config };

describe.each([{}, { fetch_types: false, prepare: false }])("functions, with a client of %j", (options) => {
  let db: FreshDatabase;
  beforeAll(async () => {
    db = await freshDatabase(options);
  });
  afterAll(() => db.drop());

  test("the same code and configuration is the same version, however its keys are ordered", async () => {
    const first = await deployVersion(db.sql, { ...swarm, code: "export default 1" });
    const reordered = { isolation: "version", egress: ["a.example"], timeout_ms: 1_000 };
    const second = await deployVersion(db.sql, { ...swarm, code: "export default 1", config: reordered });
    expect(first.created).toBe(true);
    expect(second).toEqual({ ...first, created: false });
    expect(await resolveVersion(db.sql, { ...project, name: "swarm", version: "live" })).toMatchObject({
      version: first.version,
      code: "export default 1",
      config,
      config_hash: first.config_hash,
    });
  });

  test("a deployment moves the alias; the old version is still there by its id", async () => {
    const one = await deployVersion(db.sql, { ...swarm, code: "1" });
    const two = await deployVersion(db.sql, { ...swarm, code: "2" });
    const other = await deployVersion(db.sql, { ...swarm, code: "2", config: { ...config, timeout_ms: 2 } });
    expect(new Set([one.version, two.version, other.version]).size).toBe(3);
    const resolve = (version: string) => resolveVersion(db.sql, { ...project, name: "swarm", version });
    expect(await resolve("live")).toMatchObject({ version: other.version });
    expect(await resolve(one.version)).toMatchObject({ code: "1" });
    expect(await resolve("none")).toBeNull();
    expect(await findVersion(db.sql, { tenant: DEFAULT_TENANT, version: two.version })).toMatchObject({ name: "swarm", code: "2" });
    expect(await findVersion(db.sql, { tenant: "ten_other", version: two.version })).toBeNull();
    expect(await listFunctions(db.sql, project)).toEqual([{ function: one.function, name: "swarm", aliases: { live: other.version } }]);
  });

  test("ten deploy at once: one version, no error", async () => {
    const all = await Promise.all(Array.from({ length: 10 }, () => deployVersion(db.sql, { ...swarm, name: "raced", code: "x" })));
    expect(new Set(all.map((d) => d.version)).size).toBe(1);
    expect(all.filter((d) => d.created)).toHaveLength(1);
  });

  test("another tenant with byte-identical code has a function and a version of its own (I3)", async () => {
    await ensureProject(db.sql, { tenant: "ten_b", tenant_name: "b", project: "prj_b", project_name: "b" });
    const ours = await deployVersion(db.sql, { ...swarm, code: "same" });
    const theirs = await deployVersion(db.sql, { ...swarm, code: "same", tenant: "ten_b", project: "prj_b" });
    expect(theirs.code_hash).toBe(ours.code_hash);
    expect(theirs.function).not.toBe(ours.function);
    expect(theirs.version).not.toBe(ours.version);
    expect(await resolveVersion(db.sql, { tenant: "ten_b", project: "prj_b", name: "swarm", version: ours.version })).toBeNull();
  });
});
