/** Sessions: the archive, the scripts in it, and what their clients send when. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { type Micros, micros } from "../../../schema/core/time.ts";
import type { CallOutcome } from "../../policy/vocabulary.ts";
import type { Arrival, Clients } from "../types.ts";
import { closedLoop } from "./closed-loop.ts";
import { READ_ALL, type ReadOptions } from "./lines.ts";
import { readSessions } from "./sessions.ts";
import { callsOf, type ClosedTrace } from "./trace.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-sessions-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** As `tar` writes it. */
function tar(files: readonly { readonly name: string; readonly body: string }[]): Buffer {
  const parts = files.flatMap(({ name, body }) => {
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write("0000644\0", 100);
    header.write(`${Buffer.byteLength(body).toString(8).padStart(11, "0")}\0`, 124);
    header.write("        0", 148);
    header.write("ustar\0", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    const text = Buffer.from(body);
    return [header, text, Buffer.alloc((512 - (text.length % 512)) % 512)];
  });
  return Buffer.concat([...parts, Buffer.alloc(1_024)]);
}

const call = (t: number, tokens: number, hash_ids: number[], extra: object = {}) => ({
  t,
  type: "n",
  in: tokens,
  out: 10,
  hash_ids,
  api_time: 2,
  ...extra,
});
const session = (id: string, requests: unknown[]) => JSON.stringify({ id, block_size: 64, hash_id_scope: "local", requests });
/** One call, two sub-agents at once (they end 20 s and 30 s after it), the call that waits for both. */
const nested = session("s1", [
  call(0, 128, [1, 2], { think_time: 0 }),
  {
    type: "subagent",
    subagent_type: "Explore",
    t: 22,
    duration_ms: 20_000,
    requests: [call(0, 64, [9]), call(8, 130, [9, 10], { think_time: 6 })],
  },
  { type: "subagent", subagent_type: "Plan", t: 32, duration_ms: 30_000, requests: [call(1, 70, [9])] },
  call(37, 260, [1, 2, 3, 4], { think_time: 35 }),
]);

let files = 0;
async function read(content: Buffer, options: Partial<ReadOptions> = {}, name = "sessions.tar.gz") {
  const file = join(folder, `${files++}-${name}`);
  writeFileSync(file, content);
  return readSessions(file, { ...READ_ALL, ...options });
}

describe("the archive", () => {
  test("a session each file, by id; a single file too; a plain tar too", async () => {
    const two = tar([
      { name: "b.json", body: session("s2", [call(0, 64, [1])]) },
      { name: "a.json", body: nested },
    ]);
    for (const content of [two, gzipSync(two)]) {
      const { trace } = await read(content);
      expect(trace.sessions.map((s) => [s.id, callsOf(s.script)])).toEqual([
        ["s1", 5],
        ["s2", 1],
      ]);
      expect(trace.block_tokens).toBe(64);
    }
    expect((await read(Buffer.from(nested), {}, "one.json")).trace.sessions).toHaveLength(1);
  });
  test("cut, damaged, or none", async () => {
    const whole = tar([{ name: "a.json", body: nested }]);
    await expect(read(whole.subarray(0, 700))).rejects.toThrow("the archive ends within");
    await expect(read(gzipSync(whole).subarray(0, 200))).rejects.toThrow("ends too early");
    await expect(read(Buffer.alloc(2_048, 0x61))).rejects.toThrow("is not a tar archive");
  });
  test.each([
    ["{", "is not JSON"],
    [JSON.stringify({ id: "x", block_size: 65, requests: [] }), "block_size is 65, not a multiple of 16"],
    [JSON.stringify({ id: "x", block_size: 64, requests: 1 }), "requests is 1, not a list"],
    [session("x", [call(0, 64, [1]), call(1, 0, [])]), "request 2: in is 0"],
    [session("x", [call(0, 64, [1], { think_time: -3 })]), "request 1: think_time is -3"],
    [session("x", [7]), "request 1: is 7, not an object"],
  ])("refused with its file and request: %s", async (body, what) => {
    const archive = tar([
      { name: "good.json", body: nested },
      { name: "bad.json", body },
    ]);
    await expect(read(archive)).rejects.toMatchObject({
      message: expect.stringContaining(what),
      file: expect.stringContaining("bad.json"),
    });
    const { trace, skipped } = await read(archive, { skip_malformed: true });
    expect(trace.sessions.some((s) => s.id === "s1")).toBe(true);
    expect(skipped.count).toBeGreaterThan(0);
  });
});

const SHAPE = { model: "m", context_tokens: 8_192, patience: micros(1e9) };
const DONE: CallOutcome = { type: "done", finish_reason: "stop", usage: { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1 } };

/** Every call takes `takes` µs. What arrived, in order. */
function played(clients: Clients, takes: number): Arrival[] {
  const ahead: Arrival[] = [];
  for (let next = clients.first(); next !== null; next = clients.first()) ahead.push(next);
  const all: Arrival[] = [];
  for (;;) {
    ahead.sort((a, b) => a.at - b.at);
    const arrival = ahead.shift();
    if (arrival === undefined) return all;
    all.push(arrival);
    ahead.push(...clients.ended(arrival.sim.call, DONE, (arrival.at + takes) as Micros));
  }
}
const source = ({ sessions, block_tokens }: ClosedTrace) => ({
  block_tokens,
  count: sessions.length,
  session: (n: number) => sessions[n]!,
});
const OPTIONS = { users: 1, stagger_us: 1e6, gap_us_max: 1e9, sessions: 1, calls_max: null };

describe("its clients", () => {
  test("what clients spent is kept, what the model spent is simulated; sub-agents run at once and are waited for", async () => {
    const { trace } = await read(Buffer.from(nested), {}, "one.json");
    const arrivals = played(closedLoop(source(trace), OPTIONS, SHAPE), 1e6);
    // Sub-agents begin at 1 s. The first: at once, then 6 s after its answer; its tail is 20 − (8 + 2) = 10 s.
    // The second: its first call has no gap stated; its tail is 30 − (1 + 2) = 27 s, to 29 s. The parent goes on 5 s after it.
    expect(arrivals.map(({ at, sim }) => [at / 1e6, sim.call.agent, sim.call.prompt_tokens])).toEqual([
      [0, null, 128],
      [1, "Explore", 64],
      [1, "Plan", 70],
      [8, "Explore", 130],
      [34, null, 260],
    ]);
    const blocks = arrivals.map(({ sim }) => sim.call.prefix?.blocks ?? []);
    expect(blocks[4]?.slice(0, 2)).toEqual(blocks[0]);
    expect(blocks[1]).toEqual(blocks[2]);
    expect(blocks[3]?.[0]).toBe(blocks[1]?.[0]);
    expect(new Set(arrivals.map(({ sim }) => sim.call.call_id)).size).toBe(5);
  });
  test("users take the next session when one has ended; more users than sessions play it again, sharing nothing", async () => {
    const bodies = ["a", "b", "c"].map((id) => ({
      name: `${id}.json`,
      body: session(id, [call(0, 64, [1]), call(5, 64, [1], { think_time: 3 })]),
    }));
    const { trace } = await read(tar(bodies));
    const two = played(closedLoop(source(trace), { ...OPTIONS, users: 2, sessions: 3 }, SHAPE), 1e6);
    expect(two.map(({ at, sim }) => [at / 1e6, sim.call.program])).toEqual([
      [0, "a"],
      [1, "b"],
      [4, "a"],
      [5, "b"],
      [5, "c"],
      [9, "c"],
    ]);
    const four = played(closedLoop(source(trace), { ...OPTIONS, users: 4, sessions: 4, gap_us_max: 1e6 }, SHAPE), 1e6);
    expect(four.map(({ sim }) => sim.call.program)).toContain("a.1");
    expect(new Set(four.map(({ sim }) => sim.call.prefix?.blocks[0])).size).toBe(4);
    expect(four.find(({ sim }) => sim.call.call_id.startsWith("a/") && sim.call.call_id.endsWith("1"))?.at).toBe(2e6);
  });
  test("after so many calls no more are sent", async () => {
    const { trace } = await read(Buffer.from(nested), {}, "one.json");
    expect(played(closedLoop(source(trace), { ...OPTIONS, calls_max: 2 }, SHAPE), 1e6)).toHaveLength(2);
  });
});
