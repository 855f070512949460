/** Over sockets, recorded, and decided again in another process. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { MODEL, openWorld } from "../../../test/support/gateway-world.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const CALLS = 24;

const dir = mkdtempSync(path.join(os.tmpdir(), "millrace-replay-"));
const file = path.join(dir, "decisions.jsonl");
const replay = (...args: string[]) => spawnSync(process.execPath, [MAIN, file, ...args], { encoding: "utf8" });
let digest = "";

beforeAll(async () => {
  const world = await openWorld({ speed: 20, record_decisions: file });
  try {
    const ask = async (n: number): Promise<number> => {
      const answer = await fetch(`${world.url()}/v1/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${world.key}`, "content-type": "application/json" },
        body: JSON.stringify({ model: MODEL, prompt: `question ${n} `.repeat(50 + n), max_tokens: 20, stream: n % 2 === 0 }),
      });
      await answer.text();
      return answer.status;
    };
    expect(await Promise.all(Array.from({ length: CALLS }, (_, n) => ask(n)))).toEqual(Array.from({ length: CALLS }, () => 200));
    expect(await world.state()).toMatchObject({ decisions: { recording: "on" } });
    await world.stop("SIGTERM");
    digest = (JSON.parse(readFileSync(file, "utf8").trimEnd().split("\n").at(-1) ?? "") as { digest: string }).digest;
  } finally {
    await world.close();
  }
}, 60_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("another process decides the same in the same order", () => {
  const { status, stdout } = replay("--json");
  const said = JSON.parse(stdout) as { same: boolean; events: number; replayed: string };
  expect({ status, ...said }).toMatchObject({ status: 0, same: true, replayed: digest });
  expect(said.events).toBeGreaterThan(CALLS * 6);
});

test("with one constant altered it decides otherwise, and shows where", () => {
  const { status, stdout } = replay("--alter", "kv_lease_margin=4000000");
  expect(status).toBe(1);
  expect(stdout).toContain("the first that differs is decision");
  expect(stdout).not.toContain(`replayed  ${digest}`);
});

test("what is wrong with the command or the file has its own exit code", () => {
  expect(replay("--alter", "nothing=1").status).toBe(64);
  expect(replay("--surprise").status).toBe(64);
  expect(spawnSync(process.execPath, [MAIN, MAIN], { encoding: "utf8" })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("line 1") as string,
  });
});
