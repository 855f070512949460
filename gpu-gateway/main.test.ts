/** The gateway as a process: what it says when it cannot start, and what it leaves behind when it stops. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freshDatabase, type FreshDatabase } from "../test/support/postgres.ts";
import { MODEL, openWorld } from "../test/support/gateway-world.ts";
import { acquireCell } from "../schema/db/queries/cells/acquire-cell.ts";
import { asId } from "../schema/core/ids.ts";
import { nanos } from "../schema/core/time.ts";
import { encodeLine, JOURNAL_FORMAT } from "./runtime/journal/codec.ts";
import { isRunning, identify } from "./node-agent/processes.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const SECRET = "s".repeat(32);

describe("what keeps it from starting is one line, and exit code 1", () => {
  let db: FreshDatabase;
  let dir: string;
  beforeAll(async () => {
    db = await freshDatabase();
    dir = mkdtempSync(path.join(os.tmpdir(), "millrace-main-"));
  }, 60_000);
  afterAll(async () => {
    await db.drop();
    rmSync(dir, { recursive: true, force: true });
  });

  const config = (fields: object = {}) => ({
    cell: "test",
    state_dir: "state",
    provider: { type: "local", node_id: "node-1", gpus: 1, engines: { sim: { kind: "simulated" } } },
    pools: [{ model: MODEL, role: "both", groups: 1, engine: "sim" }],
    ...fields,
  });
  async function run(
    content: unknown,
    env: Record<string, string | undefined> = {},
    before = "",
  ): Promise<{ code: number | null; said: string }> {
    const file = path.join(dir, "config.json");
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
    const child = spawn(
      "sh",
      ["-c", `${before}exec "$0" "$@"`, process.execPath, "--disable-warning=ExperimentalWarning", MAIN, "--config", file],
      {
        env: { ...process.env, DATABASE_URL: db.url, MILLRACE_CELL_SECRET: SECRET, ...env },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const [code] = (await once(child, "close")) as [number | null];
    return {
      code,
      said: said
        .split("\n")
        .filter((line) => !line.startsWith("{") && line !== "")
        .join("\n"),
    };
  }

  test("all faults of the configuration at once, with their paths", async () => {
    const pools = [
      { model: MODEL, role: "prefill", groups: 3, engine: "none" },
      { model: MODEL, role: "prefill", groups: 1, engine: "sim" },
    ];
    const cross = await run(config({ pools }));
    expect(cross).toMatchObject({ code: 1, said: expect.stringContaining("4 fault(s)") });
    for (const part of ["pools.0.engine", "pools.1", "4 GPUs", "needs prefill and decode"]) expect(cross.said).toContain(part);

    const fields = await run(config({ cell: "", listen: { port: 99_999 }, surprise: 1 }), {
      MILLRACE_CELL_SECRET: "short",
      DATABASE_URL: "",
    });
    for (const part of ["MILLRACE_CELL_SECRET", "DATABASE_URL", "cell", "listen.port", "surprise"]) expect(fields.said).toContain(part);
    expect(fields.said.split("\n")).toHaveLength(1);
  });

  test("no file, no JSON", async () => expect(await run("{")).toMatchObject({ code: 1, said: expect.stringContaining("config.json") }));

  test("a database that cannot be reached", async () =>
    expect(await run(config(), { DATABASE_URL: "postgres://u:p@127.0.0.1:1/none" })).toMatchObject({
      code: 1,
      said: expect.stringContaining("the database cannot be reached"),
    }));

  test("a port in use; the cell is free again afterwards", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as AddressInfo;
    const outcome = await run(config({ listen: { port } }));
    other.close();
    expect(outcome).toMatchObject({ code: 1, said: expect.stringContaining("the port is in use") });
    expect((await acquireCell(db.sql, { cell: "test", owner: "another", lease_ms: 1 })).type).toBe("acquired");
  });

  test("a disk that is full before anything is written; nothing keeps the next one from starting", async () => {
    const cell = "full";
    const outcome = await run(config({ cell, state_dir: "full" }), {}, "ulimit -f 0; ");
    expect(outcome).toMatchObject({ code: 1, said: expect.stringMatching(/state_dir .* cannot be written: EFBIG.*; free space in it$/) });
    expect((await acquireCell(db.sql, { cell, owner: "another", lease_ms: 1 })).type).toBe("acquired");
  });

  test("a disk that is full at the journal's first record; the cell is free again afterwards", async () => {
    const cell = asId<"cell">("full_journal");
    const journal = path.join(dir, "full_journal", "journal");
    mkdirSync(journal, { recursive: true });
    let lines = encodeLine(1, { type: "segment", format: JOURNAL_FORMAT, cell, state: null });
    for (let seq = 2; lines.length < 450; seq++) lines += encodeLine(seq, { type: "alive", t: nanos(BigInt(seq)) });
    writeFileSync(path.join(journal, "000000000000001.ndjson"), lines);
    // sh counts in blocks of 512 bytes: there is no room for a `boot`.
    const { code, said } = await run(config({ cell, state_dir: "full_journal" }), {}, "ulimit -f 1; ");
    expect(said).toMatch(/^millrace gateway: the journal cannot be written: EFBIG.*; free space in .*full_journal\/journal/);
    expect([code, said.split("\n").length]).toEqual([1, 1]);
    expect((await acquireCell(db.sql, { cell, owner: "another", lease_ms: 1 })).type).toBe("acquired");
  });

  test("a journal that is damaged: file, line, and what to do", async () => {
    const journal = path.join(dir, "damaged", "journal");
    mkdirSync(journal, { recursive: true });
    const file = path.join(journal, "000000000000001.ndjson");
    const cell = asId<"cell">("damaged");
    const head = encodeLine(1, { type: "segment", format: JOURNAL_FORMAT, cell, state: null });
    writeFileSync(file, `${head}no line\n${encodeLine(3, { type: "alive", t: nanos(5n) })}`);
    const { code, said } = await run(config({ cell, state_dir: "damaged" }));
    expect(code).toBe(1);
    expect(said).toMatch(/damaged\/journal\/0{14}1\.ndjson line 2 is not a journal line: put the file back from a copy, or move /);
    expect(said).not.toContain(" at ");
  });

  test("a cell that another gateway holds (I13)", async () => {
    await acquireCell(db.sql, { cell: "held", owner: "another", lease_ms: 600_000 });
    expect(await run(config({ cell: "held" }))).toMatchObject({ code: 1, said: expect.stringContaining("held by gateway another") });
  });
});

describe("SIGTERM", () => {
  test("gives the nodes back, settles to the nanosecond, frees the cell, exits 0; no process stays", async () => {
    const world = await openWorld({ pools: [{ role: "both", groups: 1 }] });
    const client = new OpenAI({ baseURL: `${world.url()}/v1`, apiKey: world.key, maxRetries: 0 });
    await client.chat.completions.create({ model: MODEL, messages: [{ role: "user", content: "hi" }], max_tokens: 4 });
    const engines = (await world.engines()).map((engine) => identify(engine.pid));
    expect(await world.stop("SIGTERM")).toBe(0);
    expect(world.log()).not.toContain("launch refused");
    for (const engine of engines) expect(engine !== null && isRunning(engine)).toBe(false);

    const [sums] = await world.sql`
      select (select sum(quantity) from usage where kind = 'gpu_time')::text as metered,
        (select sum(gpus * (released_at_ns - provisioned_at_ns)) from provisions)::text as provisioned`;
    expect(sums?.["metered"]).toBe(sums?.["provisioned"]);
    expect(await world.sql`select 1 from calls where outcome = 'done'`).toHaveLength(1);
    expect((await acquireCell(world.sql, { cell: "test", owner: "another", lease_ms: 1 })).type).toBe("acquired");
    await world.close();
  }, 90_000);
});

describe("fencing", () => {
  test("a gateway whose cell was taken tells its clients and ends (I13)", async () => {
    const world = await openWorld({ pools: [{ role: "both", groups: 1 }], speed: 1, lease_ms: 4_000 });
    const client = new OpenAI({ baseURL: `${world.url()}/v1`, apiKey: world.key, maxRetries: 0 });
    const ask = { model: MODEL, messages: [{ role: "user" as const, content: "Speak slowly." }], max_tokens: 400 };
    await client.chat.completions.create({ ...ask, max_tokens: 1 });
    const exited = once(world.gateway(), "exit");
    const value = "mill race ".repeat(400);
    const schema = { name: "long", schema: { enum: [value] } };
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      response_format: { type: "json_schema", json_schema: schema },
    });
    const chunks = stream[Symbol.asyncIterator]();
    await chunks.next();
    await world.sql`update cells set epoch = epoch + 1, owner = 'another', expires_at = now() + interval '1 hour'`;
    const reading = async () => {
      while ((await chunks.next()).done !== true);
    };
    await expect(reading()).rejects.toThrow(/lease/);
    expect((await exited)[0]).toBe(1);
    await world.close();
  }, 90_000);
});
