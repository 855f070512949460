/** The lock against real processes that want it at the same moment, beside nobody and beside a dead owner. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, expect, test } from "vitest";
import { takeLock, thisProcess } from "./lock.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-lock-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const CONTENDERS = 4;
const ROUNDS = 60;
const dead = `{"pid":999999999,"started":"1"}`;

/** Takes each lock that it is told a path of, and says what came of it. */
const script = `
  import { createInterface } from "node:readline";
  import { takeLock } from ${JSON.stringify(new URL("lock.ts", import.meta.url).href)};
  console.log("up");
  for await (const path of createInterface({ input: process.stdin })) {
    const taken = takeLock(path);
    console.log(taken.type === "taken" ? "taken" : "refused by " + taken.owner.pid);
  }`;

test("of all who want it at once one gets it, and the others are told who", { timeout: 60_000 }, async () => {
  const contenders = Array.from({ length: CONTENDERS }, () => {
    const child = spawn(process.execPath, ["--no-warnings", "--input-type=module-typescript", "-e", script], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    return { child, lines: createInterface({ input: child.stdout })[Symbol.asyncIterator]() };
  });
  const all = () => Promise.all(contenders.map(async ({ lines }) => (await lines.next()).value as string));
  try {
    expect(new Set(await all())).toEqual(new Set(["up"]));
    for (let round = 0; round < ROUNDS; round++) {
      const path = join(folder, `lock-${round}`);
      if (round % 3 > 0) writeFileSync(path, round % 3 === 1 ? dead : "");
      for (const { child } of contenders) child.stdin.write(`${path}\n`);
      const said = await all();
      const winner = contenders[said.indexOf("taken")]?.child.pid;
      expect(said.filter((line) => line === "taken")).toHaveLength(1);
      // One that was at replacing the dead owner's lock may be named instead: it is alive, and it did not get it either.
      const pids = contenders.map(({ child }) => child.pid);
      for (const line of said) if (line !== "taken") expect(pids).toContain(Number(line.replace("refused by ", "")));
      expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({ pid: winner });
    }
    expect(readdirSync(folder).filter((name) => !/^lock-\d+$/.test(name))).toEqual([]);
  } finally {
    for (const { child } of contenders) child.kill("SIGKILL");
  }
});

test("held until released; another's is not released", () => {
  const path = join(folder, "held");
  const first = takeLock(path);
  expect(takeLock(path)).toEqual({ type: "refused", owner: thisProcess() });
  if (first.type === "taken") first.release();
  expect(existsSync(path)).toBe(false);
  const second = takeLock(path);
  writeFileSync(path, dead);
  if (second.type === "taken") second.release();
  expect(readFileSync(path, "utf8")).toBe(dead);
});
