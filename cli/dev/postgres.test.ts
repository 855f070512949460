import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import postgres from "postgres";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { findPostmaster, goneAway, isAlive } from "./postgres-postmaster.ts";
import { PostgresUnavailable, type RunningPostgres, startPostgres } from "./postgres.ts";

const root = process.getuid?.() === 0;
let base: string;
const running: RunningPostgres[] = [];
const homes: string[] = [];

beforeAll(async () => {
  base = await mkdtemp(path.join(os.tmpdir(), "millrace-postgres-test-"));
  await chmod(base, 0o755);
});
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop();
});
afterAll(async () => {
  for (const home of [...homes, base]) await rm(home, { recursive: true, force: true });
});

async function start(dir: string, port?: number, durable = false): Promise<RunningPostgres> {
  const server = await startPostgres({ dir: path.join(base, dir), port, durable });
  running.push(server);
  if (server.home !== null) homes.push(server.home);
  return server;
}

async function ask<T>(url: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    return await work(sql);
  } finally {
    await sql.end();
  }
}

const refusal = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(PostgresUnavailable);
  const { message } = error as PostgresUnavailable;
  expect(message).not.toContain("\n");
  return message;
};

test("what was written is there after a stop and a start; a password is asked for", async () => {
  const first = await start("kept");
  expect(first.adopted).toBe(false);
  await ask(first.url, (sql) => sql`create table kept as select 42 as answer`);
  expect((await stat(path.join(first.home!, "password"))).mode & 0o777).toBe(0o600);
  await expect(ask(first.url.replace(/:[^:@]+@/, ":wrong@"), (sql) => sql`select 1`)).rejects.toThrow(/password/);
  await first.stop();
  await first.exited;
  await first.stop();
  const second = await start("kept");
  expect(await ask(second.url, (sql) => sql`select answer from kept`)).toEqual([{ answer: 42 }]);
  expect(await ask(second.url, (sql) => sql`show server_version_num`)).toMatchObject([
    { server_version_num: expect.stringMatching(/^18/) },
  ]);
}, 60_000);

test("a server whose parent was killed is adopted; at another port it is stopped and started anew", async () => {
  const dir = path.join(base, "orphan");
  const script = `
    import { startPostgres } from ${JSON.stringify(new URL("postgres.ts", import.meta.url).href)};
    const { pid } = await startPostgres({ dir: ${JSON.stringify(dir)}, durable: false });
    console.log(pid);
    setInterval(() => {}, 1_000);`;
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const [chunk] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(chunk.toString());
  parent.kill("SIGKILL");
  await once(parent, "close");
  expect(isAlive(pid)).toBe(true);

  const adopted = await start("orphan");
  expect(adopted).toMatchObject({ adopted: true, pid });
  expect(await ask(adopted.url, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }]);

  const port = await unusedPort();
  const moved = await start("orphan", port);
  expect(moved).toMatchObject({ adopted: false, port });
  await adopted.exited;
  expect(isAlive(pid)).toBe(false);
}, 60_000);

test("a killed server leaves a stale pid file and its children's memory: the next start deals with both", async () => {
  const first = await start("killed", undefined, true);
  await ask(first.url, (sql) => sql`create table kept as select 1 as one`);
  process.kill(first.pid!, "SIGKILL");
  await first.exited;
  const second = await start("killed", undefined, true);
  expect(second).toMatchObject({ adopted: false });
  expect(await ask(second.url, (sql) => sql`select one from kept`)).toEqual([{ one: 1 }]);
}, 60_000);

test("a pid file whose pid is somebody else's now is stale, and that somebody is left alone", async () => {
  const first = await start("reused");
  await first.stop();
  const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1_000)"]);
  const pid_file = path.join(first.home!, "data", "postmaster.pid");
  await writeFile(pid_file, `${other.pid}\n${path.dirname(pid_file)}\n1\n1\n\n127.0.0.1\n1 1\nready   \n`);
  expect(await findPostmaster(path.dirname(pid_file))).toEqual({ type: "stale" });
  expect(await start("reused")).toMatchObject({ adopted: false });
  expect(isAlive(other.pid!)).toBe(true);
  other.kill("SIGKILL");
  await goneAway(other.pid!);
}, 60_000);

test("an initdb that was killed half-way is done again", async () => {
  await mkdir(path.join(base, "half", "data.new", "base"), { recursive: true });
  await writeFile(path.join(base, "half", "data.new", "PG_VERSION"), "18\n");
  expect(await start("half")).toMatchObject({ adopted: false });
}, 60_000);

test.runIf(root)(
  "as root below a 0700 folder the data lies elsewhere, stays there, and goes when the folder went",
  async () => {
    const closed = path.join(base, "closed");
    await mkdir(closed, { mode: 0o700 });
    const first = await start("closed/state");
    expect(first.home).toMatch(/^\/var\/lib\/millrace-[0-9a-f]{16}$/);
    expect((await readFile(path.join(closed, "state", "postgres-home.txt"), "utf8")).trim()).toBe(first.home);
    await first.stop();
    await chmod(closed, 0o755);
    const second = await start("closed/state");
    expect(second.home).toBe(first.home);
    await ask(second.url, (sql) => sql`create table kept as select 1 as one`);

    await chmod(closed, 0o700);
    await rm(path.join(closed, "state"), { recursive: true });
    const anew = await start("closed/state");
    expect(anew).toMatchObject({ home: first.home, adopted: false });
    expect(isAlive(second.pid!)).toBe(false);
    await expect(ask(anew.url, (sql) => sql`select one from kept`)).rejects.toThrow(/does not exist/);
  },
  60_000,
);

test("a port in use is named", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  expect(await refusal(start("port", port))).toBe(
    `port ${port} is in use; stop what listens there or choose another with --postgres-port.`,
  );
  await new Promise((resolve) => taken.close(resolve));
}, 60_000);

test("a folder that cannot be one is named", async () => {
  await writeFile(path.join(base, "file"), "");
  expect(await refusal(start("file/below"))).toMatch(/^Postgres cannot keep its data in .*file\/below: ENOTDIR/);
});

test("data that is no database's stops the start with the server's own word and the log's place", async () => {
  const first = await start("broken");
  await first.stop();
  await rm(path.join(first.home!, "data", "global", "pg_control"));
  expect(await refusal(start("broken"))).toMatch(/^Postgres did not start: could not find the database system \(log: .*postgres\.log\)\.$/);
}, 60_000);

test("another server by its URL is used, never stopped; one that does not answer is named without its password", async () => {
  const own = await start("shared");
  const borrowed = await startPostgres({ dir: "unused", database_url: own.url });
  expect(borrowed).toMatchObject({ url: own.url, pid: null, home: null });
  await borrowed.stop();
  expect(await ask(own.url, (sql) => sql`select 1 as one`)).toEqual([{ one: 1 }]);
  const nobody = `postgres://u:secret@127.0.0.1:${await unusedPort()}/db`;
  const message = await refusal(startPostgres({ dir: "unused", database_url: nobody }));
  expect(message).toMatch(/^The database that DATABASE_URL names cannot be used: .*ECONNREFUSED/);
  expect(message).not.toContain("secret");
}, 60_000);

test.each(["garbage", "http://u:secret@localhost/db", "postgres"])(
  "a DATABASE_URL that is none is named, and not repeated: %s",
  async (url) => {
    const message = await refusal(startPostgres({ dir: "unused", database_url: url }));
    expect(message).toBe("DATABASE_URL is not the URL of a Postgres: postgres://user:password@host:port/database.");
  },
);

async function unusedPort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
