/**
 * `npm start` as a person meets it, in a process of its own beside the shared product (two products coexist on one machine): its end by
 * Ctrl-C, its state over a restart, what a SIGKILL leaves, and its one-line refusals.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, it } from "vitest";
import { listKeys, createKey } from "../../cli/commands/keys.ts";
import { usage } from "../../cli/commands/usage.ts";
import { takeLock } from "../../cli/dev/lock.ts";
import { StateFolder } from "../../cli/dev/state.ts";
import { until } from "../support/until.ts";

const root = join(import.meta.dirname, "..", "..");
/** Its name needs quoting: what is printed must work as it is. */
const folder = mkdtempSync(join(tmpdir(), "millrace's supervisor-"));
const state = new StateFolder(folder);
const UP_MS = 60_000;

type Started = { readonly child: ChildProcess; readonly output: () => string; readonly exit: Promise<number | null> };

/** Runs what `npm start -- …` runs, in a group of its own as a terminal would. */
function npmStart(...flags: string[]): Started {
  const child = spawn(
    process.execPath,
    ["cli/bootstrap.mjs", "dev", "--state", folder, "--edge-port", "0", "--gateway-port", "0", "--speed", "20", ...flags],
    {
      cwd: root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const made = { child, output: () => text, exit: new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code))) };
  all.push(made);
  return made;
}
/** A test that failed leaves nothing running. */
const all: Started[] = [];
afterEach(async () => {
  for (const one of all.splice(0)) {
    if (one.child.exitCode === null && one.child.signalCode === null) group(one, "SIGTERM");
    await one.exit;
  }
});

const ready = (started: Started) =>
  until(
    "ready",
    () => {
      if (started.child.exitCode !== null) throw new Error(started.output());
      return started.output().includes("\nready\n");
    },
    UP_MS,
  );

/** Every process whose command line or environment names this state folder. */
function left(folder: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        return command.includes(folder) ? [`${pid} ${command}`] : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

/** In a terminal of its own, in the checkout; what a person would type comes from a pipe. */
async function worksAsPrinted(command: string): Promise<void> {
  const { MILLRACE_URL: _u, MILLRACE_KEY: _k, MILLRACE_STATE: _s, ...env } = process.env;
  const shell = spawn("sh", ["-c", command], { cwd: root, env, stdio: ["pipe", "pipe", "pipe"] });
  let out = "";
  let err = "";
  shell.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  shell.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  shell.stdin.end("what is a mill race?\n");
  const code = await new Promise((resolve) => shell.once("close", resolve));
  expect({ command, code, err }).toMatchObject({ code: 0 });
  if (command.startsWith("npx")) expect(out).toMatch(/\[aggregator\] .+/);
  else if (command.includes("invocations")) expect(JSON.parse(out)).toMatchObject({ status: "done", output: expect.anything() });
  else expect(JSON.parse(out)).toMatchObject({ group_by: ["agent"], reconciliation: { difference_gpu_ns: "0" } });
}

const group = (started: Started, signal: NodeJS.Signals) => process.kill(-(started.child.pid ?? 0), signal);

/** With the database, which for root lies elsewhere and says where. */
function removeState(folder: string): void {
  const note = join(folder, "postgres", "postgres-home.txt");
  if (existsSync(note)) rmSync(readFileSync(note, "utf8").trim(), { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}
afterAll(() => removeState(folder));

it.skipIf(process.platform !== "linux")(
  "comes up, stops at Ctrl-C without leaving a process, keeps its state, and recovers from a SIGKILL of the whole",
  async () => {
    const first = npmStart();
    await ready(first);
    const lines = first.output().split("\n");
    const at = lines.indexOf("ready");
    expect(lines[at + 1]).toMatch(/edge +http:\/\/127\.0\.0\.1:\d+$/);
    expect(lines[at + 2]).toMatch(/gateway +http:\/\/127\.0\.0\.1:\d+$/);
    expect(lines[at + 3]).toMatch(/key +mr_/);
    expect(first.output().match(/^ {2}(curl|npx) /gm)).toHaveLength(3);
    for (const secret of ["dev-key", "cell-secret", "run.json", "edge.env"]) expect(statSync(state.file(secret)).mode & 0o777).toBe(0o600);
    const key = state.readSecret("dev-key") ?? "";
    const url = state.readRun()?.edge?.url ?? "";
    await createKey({ url, key }, "kept", ["usage"]);

    for (const command of first.output().matchAll(/^ {2}((?:curl|npx) .*)$/gm)) await worksAsPrinted(command[1] ?? "");

    const beside = npmStart();
    expect(await beside.exit).toBe(1);
    expect(beside.output()).toMatch(/already runs from this folder at http.*--state DIR/);

    group(first, "SIGINT");
    expect(await first.exit).toBe(0);
    expect(left(folder)).toEqual([]);
    expect(state.readRun()).toBeNull();

    const second = npmStart();
    await ready(second);
    expect(state.readSecret("dev-key")).toBe(key);
    const again = { url: state.readRun()?.edge?.url ?? "", key };
    expect((await listKeys(again)).keys.map((one) => one.name)).toContain("kept");

    const before = state.readRun();
    const scratch = () => readdirSync(state.file("wrangler", ".wrangler", "tmp"));
    const left_scratch = scratch();
    expect(left_scratch.length).toBeGreaterThan(0);
    group(second, "SIGKILL");
    await second.exit;
    const third = npmStart();
    await ready(third);
    expect(scratch().filter((name) => left_scratch.includes(name))).toEqual([]);
    expect(state.readRun()?.gateway?.process.pid).not.toBe(before?.gateway?.process.pid);
    const report = await usage({ url: state.readRun()?.edge?.url ?? "", key }, { group_by: ["function"], settle: true });
    expect(report.reconciliation.difference_gpu_ns).toBe("0");
    group(third, "SIGTERM");
    expect(await third.exit).toBe(0);
    expect(left(folder)).toEqual([]);
  },
  4 * UP_MS,
);

it(
  "of two starts of one folder at the same moment one comes up and serves, and the other leaves it alone",
  async () => {
    const both = mkdtempSync(join(tmpdir(), "millrace-two-"));
    const starts = [npmStart("--state", both), npmStart("--state", both)] as const;
    try {
      const code = await Promise.race(starts.map((one) => one.exit));
      expect(code).toBe(1);
      const [loser, winner] = starts[0].child.exitCode === null ? [starts[1], starts[0]] : starts;
      const pid = /^millrace: Millrace already runs from this folder.* \(pid (\d+)\); stop it, or start another with --state DIR\.$/m.exec(
        loser.output(),
      )?.[1];
      await ready(winner);
      const run = new StateFolder(both).readRun();
      expect(run).toMatchObject({ ready: true, supervisor: { pid: Number(pid) } });
      expect(winner.output()).toContain(`edge     ${run?.edge?.url}`);
      const connection = { url: run?.edge?.url ?? "", key: new StateFolder(both).readSecret("dev-key") ?? "" };
      const report = await usage(connection, { group_by: ["function"], settle: true });
      expect(report.reconciliation.difference_gpu_ns).toBe("0");
      group(winner, "SIGTERM");
      expect(await winner.exit).toBe(0);
      expect(left(both)).toEqual([]);
      expect(readdirSync(both).filter((name) => name.startsWith("start.lock"))).toEqual([]);
    } finally {
      for (const one of starts) if (one.child.exitCode === null) group(one, "SIGTERM");
      await Promise.all(starts.map((one) => one.exit));
      removeState(both);
    }
  },
  2 * UP_MS,
);

it("is refused beside a start that has only just begun, and touches nothing", async () => {
  const begun = mkdtempSync(join(tmpdir(), "millrace-begun-"));
  const lock = takeLock(join(begun, "start.lock"));
  const refused = npmStart("--state", begun);
  expect(await refused.exit).toBe(1);
  expect(refused.output()).toBe(
    `millrace: Millrace already runs from this folder (pid ${process.pid}); stop it, or start another with --state DIR.\n`,
  );
  expect(readdirSync(begun)).toEqual(["start.lock"]);
  if (lock.type === "taken") lock.release();
  rmSync(begun, { recursive: true, force: true });
});

it.skipIf(process.platform !== "linux")("says in one line that the disk is full, and what to do", async () => {
  const full = mkdtempSync(join(tmpdir(), "millrace-full-"));
  symlinkSync("/dev/full", join(full, "run.json.new"));
  const refused = npmStart("--state", full);
  expect(await refused.exit).toBe(1);
  expect(refused.output()).toMatch(
    /^millrace: the disk is full \(ENOSPC: .*\); make room, or name a folder on another disk with --state DIR\.\n$/,
  );
  rmSync(full, { recursive: true, force: true });
});

it("says in one line that a named port is in use, and what to do", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const address = taken.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const refused = npmStart("--edge-port", String(port));
  expect(await refused.exit).toBe(1);
  expect(refused.output().trim()).toBe(`millrace: port ${port} is in use; stop what listens there or choose another with --edge-port.`);
  taken.close();
});

it("says in one line what is wrong with what it was told", async () => {
  const cases: [string[], RegExp][] = [
    [
      ["--edge-port", "4711", "--gateway-port", "4711"],
      /^millrace: --edge-port and --gateway-port are both 4711; choose two different ports\.\n$/,
    ],
    [["--speed", "Infinity"], /^error: option '--speed <factor>' argument 'Infinity' is invalid\. a number above 0 and at most 10000\./],
    [
      ["--state", "/dev/null/x"],
      /^millrace: the state folder \/dev\/null\/x cannot be used: ENOTDIR.*; name another with --state DIR\.\n$/,
    ],
  ];
  await Promise.all(
    cases.map(async ([flags, said]) => {
      const refused = npmStart(...flags);
      expect(await refused.exit).toBe(1);
      expect(refused.output()).toMatch(said);
    }),
  );
});

/** True while a program of this name runs in the process group, where a terminal's Ctrl-C reaches it. */
const runsInGroup = (started: Started, program: string) =>
  readdirSync("/proc").some((pid) => {
    try {
      const stat = readFileSync(`/proc/${Number(pid)}/stat`, "utf8");
      return stat.includes(`(${program}) `) && Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]) === started.child.pid;
    } catch {
      return false; // no process, or ended meanwhile
    }
  });

it.skipIf(process.platform !== "linux")("ends with 130 and without a complaint when Ctrl-C comes while the database is made", async () => {
  const fresh = mkdtempSync(join(tmpdir(), "millrace-early-"));
  const started = npmStart("--state", fresh);
  await until("initdb", () => runsInGroup(started, "initdb"), UP_MS);
  group(started, "SIGINT");
  expect(await started.exit).toBe(130);
  expect(started.output()).toMatch(/^(millrace: [^\n]+ …\n)+$/);
  expect(left(fresh)).toEqual([]);
  removeState(fresh);
});
