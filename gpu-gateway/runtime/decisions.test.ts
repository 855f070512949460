import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { inFull } from "../policy/catalogue.ts";
import type { Effect } from "../policy/effects.ts";
import type { Scheduler } from "../policy/scheduler.ts";
import { DecisionRecorder, type RecorderOptions } from "./decisions.ts";
import { DECISIONS_PENDING_MAX } from "./limits.ts";

const dir = mkdtempSync(path.join(os.tmpdir(), "millrace-decisions-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

type Decider = Pick<Scheduler, "handle">;
const policies = inFull({}, { scope: "test/1", targets: [] });
const log: string[] = [];
const open = (name: string, more: Partial<RecorderOptions> = {}) =>
  DecisionRecorder.open({
    file: path.join(dir, name),
    policies,
    log: (line, fields) => log.push(JSON.stringify({ line, ...fields })),
    ...more,
  });
const lines = (name: string) =>
  readFileSync(path.join(dir, name), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

/** Answers each event with one effect that names its instant. */
const echo: Decider = { handle: (_event, now): readonly Effect[] => [{ type: "wake_at", at: now }] };
const tell = (scheduler: Decider, count: number) => {
  for (let at = 0; at < count; at++) scheduler.handle({ type: "kv_released", leg_id: asId<"leg">(`leg-${at}`) }, micros(at));
};
const digestOf = (count: number) => {
  const hash = createHash("sha256");
  for (let at = 0; at < count; at++) hash.update(`[{"type":"wake_at","at":${at}}]\n`);
  return hash.digest("hex");
};

test("a header, each event with its instant and effects, a footer with the digest; the same digest on demand", async () => {
  const recorder = await open("whole");
  const scheduler = recorder.around(echo);
  tell(scheduler, 3);
  expect(recorder.state()).toEqual({ recording: "on", events: 3, digest: digestOf(3) });
  await recorder.close("stopped");
  expect(lines("whole")).toEqual([
    { format: "millrace-decisions", version: 1, policies },
    ...[0, 1, 2].map((at) => ({ at, event: { type: "kv_released", leg_id: `leg-${at}` }, effects: [{ type: "wake_at", at }] })),
    { end: "stopped", events: 3, digest: digestOf(3) },
  ]);
});

test("more events than are kept by reference are all there, in order", async () => {
  const recorder = await open("many");
  tell(recorder.around(echo), 3 * DECISIONS_PENDING_MAX + 1);
  await recorder.close("fenced");
  expect(lines("many").at(-1)).toEqual({
    end: "fenced",
    events: 3 * DECISIONS_PENDING_MAX + 1,
    digest: digestOf(3 * DECISIONS_PENDING_MAX + 1),
  });
});

test.each([
  ["limit", { bytes_max: 4_000 }],
  ["overrun", { unwritten_bytes_max: 4_000 }],
] as const)("at a limit the recording ends with what it has, and says so: %s", async (end, options) => {
  const recorder = await open(end, options);
  const scheduler = recorder.around(echo);
  tell(scheduler, 100);
  const { events, recording } = recorder.state();
  expect(recording).toBe(end);
  expect(events).toBeGreaterThan(0);
  expect(scheduler.handle({ type: "timer" }, micros(7))).toEqual([{ type: "wake_at", at: 7 }]);
  await recorder.close("stopped");
  expect(lines(end).at(-1)).toEqual({ end, events, digest: digestOf(events) });
  expect(lines(end)).toHaveLength(events + 2);
  expect(log.at(-1)).toContain(`"end":"${end}"`);
});

test("a file that cannot be made is told at once", async () => {
  await expect(open(path.join("no", "such"))).rejects.toThrow("ENOENT");
});

test("a full disk ends the recording, is told once, and nothing else ends", async () => {
  const child = fileURLToPath(new URL("./decisions.test-child.ts", import.meta.url));
  // A limit on file size makes write(2) fail as a full disk does, in a process of its own.
  const command = `ulimit -f 16; exec "${process.execPath}" "${child}" "${path.join(dir, "full")}"`;
  const { stdout } = await promisify(execFile)("sh", ["-c", command]);
  expect(JSON.parse(stdout)).toEqual({ recording: "failed", told: [expect.stringContaining("EFBIG")], served: 1 });
});

test("a recording from before is kept beside", async () => {
  writeFileSync(path.join(dir, "again"), "before\n");
  const recorder = await open("again");
  await recorder.close("stopped");
  expect(readFileSync(path.join(dir, "again.before"), "utf8")).toBe("before\n");
  expect(lines("again")).toHaveLength(2);
});
