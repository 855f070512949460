/** A child of the supervisor, as a real process: its log on a full disk, and what is said of one that does not come up. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "../../test/support/until.ts";
import { Child, type ChildSpec } from "./child.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-child-"));
const children: Child[] = [];
beforeEach(() => void mkdirSync(folder, { recursive: true }));
afterEach(async () => {
  for (const child of children.splice(0)) await child.stop(1_000);
  rmSync(folder, { recursive: true, force: true });
});

function child(script: string, change: Partial<ChildSpec> = {}) {
  const said: string[] = [];
  const made = new Child({
    name: "part",
    command: [process.execPath, "-e", script],
    cwd: tmpdir(),
    env: process.env,
    log_file: join(folder, "part.log"),
    ready: async (io) => void (await io.line((line) => line === "up")),
    restart: true,
    on_spawn: () => {},
    on_death: (message) => said.push(message),
    ...change,
  });
  children.push(made);
  return { made, said };
}

test.runIf(process.platform === "linux")(
  "a log on a full disk costs the log, is said once, and stops neither child nor supervisor",
  async () => {
    const { made, said } = child(`console.log("up"); setInterval(() => console.log("more"), 1)`, { log_file: "/dev/full" });
    await made.start();
    await until("the message", () => said.length > 0);
    expect(said).toEqual([expect.stringMatching(/^the log of part cannot be written until its next start: ENOSPC/)]);
    await made.stop(1_000);
    expect(said).toHaveLength(1);
  },
);

test.runIf(process.platform === "linux")("a log that could not be written is opened again at the child's next start", async () => {
  const log_file = join(folder, "part.log");
  symlinkSync("/dev/full", log_file);
  const born: number[] = [];
  const { made, said } = child(`console.log("I am " + process.pid); console.log("up"); setInterval(() => {}, 1_000)`, {
    log_file,
    on_spawn: ({ pid }) => born.push(pid),
  });
  await made.start();
  await until("the message", () => said.length > 0);
  unlinkSync(log_file);
  process.kill(born[0] ?? 0, "SIGKILL");
  const second = await until("the second life", () => born[1]);
  await until("its log", () => existsSync(log_file) && readFileSync(log_file, "utf8").includes(`I am ${second}`));
  expect(said).toEqual([
    expect.stringMatching(/^the log of part cannot be written until its next start: ENOSPC/),
    "part was ended by SIGKILL; starting it again in 250 ms",
  ]);
});

test("one that ends before it serves: its last word without the stack, and the log's place", async () => {
  const { made } = child(
    `console.error("part: Error: ENOSPC: no space left on device, write     at x (y.js:1)     at z"); process.exit(1)`,
  );
  await expect(made.start()).rejects.toThrow(
    `part ended with code 1: part: Error: ENOSPC: no space left on device, write (log: ${join(folder, "part.log")})`,
  );
});

test("one that does not come up: what was awaited, its last word, and the log's place", async () => {
  const { made } = child(`console.log("\\u001b[31mcannot write .cache\\u001b[0m"); setInterval(() => {}, 1_000)`, {
    ready: async (io) => {
      await io.line((line) => line.includes("cannot"));
      throw new Error("the part did not answer");
    },
  });
  await expect(made.start()).rejects.toThrow(
    `the part did not answer; its last words: cannot write .cache (log: ${join(folder, "part.log")})`,
  );
});
