/** Each format on small files: what is right is read, what is wrong is said with its place, and nothing is read without bound. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { LINE_BYTES_MAX, linesOf } from "./bytes.ts";
import { READ_ALL, type ReadOptions } from "./lines.ts";
import { readTrace, type TraceFormat } from "./read.ts";
import { OpenTrace } from "./trace.ts";

const folder = mkdtempSync(join(tmpdir(), "millrace-traces-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function written(name: string, content: string | Buffer): string {
  const file = join(folder, `${files++}-${name}`);
  writeFileSync(file, content);
  return file;
}
async function opened(file: string, options: Partial<ReadOptions> = {}, format: TraceFormat | null = null) {
  const { trace, ...rest } = await readTrace(file, format, { ...READ_ALL, ...options });
  if (!(trace instanceof OpenTrace)) throw new Error("not an open trace");
  return { trace, calls: Array.from({ length: trace.calls }, (_, i) => trace.call(i)), ...rest };
}
const line = (timestamp: number, input_length = 1_100, output_length = 7, hash_ids: unknown = [1, 2, 3]) =>
  JSON.stringify({ timestamp, input_length, output_length, hash_ids });

describe("Mooncake", () => {
  test("its calls, from zero on; the block that is not full is left out", async () => {
    const { calls, format, trace } = await opened(written("a.jsonl", `${line(5_000)}\n\n${line(5_250, 512, 0, [1])}`));
    expect(format).toBe("mooncake");
    expect(trace.block_tokens).toBe(512);
    expect(calls).toMatchObject([
      { at_us: 0, prompt_tokens: 1_100, output_tokens: 7, blocks: [1, 2] },
      { at_us: 250_000, prompt_tokens: 512, output_tokens: 1, blocks: [1] },
    ]);
  });
  test("gzip is seen from the bytes, whatever the name; lines may end in CRLF and begin with a byte order mark", async () => {
    const { calls } = await opened(written("plain-name.jsonl", gzipSync(`\uFEFF${line(0)}\r\n${line(1)}\r\n`)));
    expect(calls).toHaveLength(2);
  });
  test.each([
    ["not json", "is not JSON"],
    ["[1]", "is [1], not a JSON object"],
    [line(-1), "timestamp is -1"],
    [JSON.stringify({ input_length: 1 }), "timestamp is missing"],
    [line(0, 0), "input_length is 0; the least is 1"],
    [line(0, 1.5), "input_length is 1.5, not a whole number"],
    [JSON.stringify({ timestamp: 0, input_length: "9", output_length: 1 }), 'input_length is "9", not a number'],
    [line(0, 512, 1, "x"), 'hash_ids is "x"'],
    [line(0, 512, 1, [1, 2]), "2 hash_ids for 512 tokens"],
  ])("%s: refused with file, line and what is wrong", async (bad, what) => {
    const file = written("bad.jsonl", `${line(0)}\n${bad}\n${line(9)}\n`);
    await expect(opened(file, {}, "mooncake")).rejects.toMatchObject({ file, line: 2, what: expect.stringContaining(what) });
    const { calls, skipped } = await opened(file, { skip_malformed: true }, "mooncake");
    expect(calls).toHaveLength(2);
    expect(skipped.count).toBe(1);
    expect(skipped.first[0]).toContain(`${file}:2: `);
  });
  test("a window and a limit, in the trace's own time", async () => {
    const file = written("w.jsonl", [0, 100, 200, 300, 400].map((at) => line(1_000 + at)).join("\n"));
    expect((await opened(file, { from_ms: 100, to_ms: 400 })).calls.map((c) => c.at_us)).toEqual([0, 100_000, 200_000]);
    expect((await opened(file, { from_ms: 100, limit: 2 })).calls).toHaveLength(2);
    await expect(opened(file, { from_ms: 9_000 })).rejects.toThrow("holds no calls in that window");
  });
  test("calls out of order are put in order", async () => {
    const { calls, trace } = await opened(written("o.jsonl", [line(0), line(300), line(200)].join("\n")));
    expect(calls.map((c) => c.at_us)).toEqual([0, 200_000, 300_000]);
    expect(trace.came_sorted).toBe(false);
  });
});

describe("files that are not whole", () => {
  test("an empty one, one that is not there, one of no known format", async () => {
    await expect(opened(written("empty.jsonl", ""), {}, "mooncake")).rejects.toThrow("holds no calls");
    await expect(opened(written("empty.jsonl", ""))).rejects.toThrow("its format cannot be told");
    await expect(opened(join(folder, "none.jsonl"))).rejects.toMatchObject({ line: 0, what: "there is no such file" });
    await expect(opened(written("x.txt", "hello\n"))).rejects.toThrow("its format cannot be told");
    await expect(opened(folder)).rejects.toThrow("is a folder");
  });
  test("a gzip stream that was cut, and one that is damaged", async () => {
    const lines = Array.from({ length: 5_000 }, (_, i) => line(i, 600, i, [i, i + 1])).join("\n");
    const whole = gzipSync(lines);
    await expect(opened(written("cut.jsonl.gz", whole.subarray(0, whole.length / 2)), {}, "mooncake")).rejects.toMatchObject({
      line: expect.toSatisfy((n: number) => n > 1),
      what: expect.stringContaining("ends too early"),
    });
    const damaged = Buffer.from(whole);
    damaged.fill(0, whole.length - 8); // its checksum
    await expect(opened(written("bad.jsonl.gz", damaged), {}, "mooncake")).rejects.toThrow("is damaged");
  });
  test("a line without end is not kept in memory", async () => {
    const huge = Buffer.alloc(256 * 1024 * 1024, 0x61);
    const file = written(
      "huge.jsonl.gz",
      gzipSync(Buffer.concat([Buffer.from(`${line(0)}\n`), huge, Buffer.from(`\n${line(1)}\n`)]), { level: 1 }),
    );
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    for await (const { text } of linesOf(file)) {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      expect(text === null || text.length < LINE_BYTES_MAX).toBe(true);
    }
    expect(most).toBeLessThan(huge.length / 2);
    await expect(opened(file, {}, "mooncake")).rejects.toMatchObject({ line: 2, what: expect.stringContaining("longer than") });
    expect((await opened(file, { skip_malformed: true }, "mooncake")).calls).toHaveLength(2);
  });
});

describe("Azure", () => {
  const header = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n";
  test("its calls, to the microsecond, in any order of columns", async () => {
    const { calls, format } = await opened(
      written("a.csv", `${header}2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8\r\n`),
    );
    expect(format).toBe("azure");
    expect(calls).toMatchObject([
      { at_us: 0, prompt_tokens: 4_808, output_tokens: 10, blocks: [] },
      { at_us: 52_000, prompt_tokens: 3_180, output_tokens: 8 },
    ]);
    const turned = written("b.csv", "GeneratedTokens,TIMESTAMP,ContextTokens\n3,2024-05-10 00:00:00+00:00,5\n");
    expect((await opened(turned)).calls).toMatchObject([{ prompt_tokens: 5, output_tokens: 3 }]);
  });
  test.each([
    ["2023-11-16 18:17,1,2", "TIMESTAMP is"],
    ["2023-13-40 18:17:03,1,2", "TIMESTAMP is"],
    ["2023-11-16 18:17:03,many,2", 'ContextTokens is "many"'],
    ["2023-11-16 18:17:03,0,2", "ContextTokens is 0"],
    ["2023-11-16 18:17:03,1", "GeneratedTokens is missing"],
  ])("%s: refused with its line", async (bad, what) => {
    await expect(opened(written("x.csv", `${header}2023-11-16 18:17:03,1,2\n${bad}\n`))).rejects.toMatchObject({
      line: 3,
      what: expect.stringContaining(what),
    });
  });
  test("a header without a column", async () => {
    await expect(opened(written("h.csv", "TIMESTAMP,GeneratedTokens\n"))).rejects.toThrow("the header has no column ContextTokens");
  });
});

describe("our own metered calls", () => {
  const header = JSON.stringify({ format: "millrace-calls", version: 1, from: "2026-01-01", to: "2026-01-02", tenant: null });
  const call = (at_us: number, prompt_tokens: number, cached_tokens: number, program: string | null = "p1") =>
    JSON.stringify({ at_us, prompt_tokens, cached_tokens, completion_tokens: 5, tenant: "ten_a", program, agent: "writer", model: "m" });
  test("what was cached is taken to be the prompt before it in the same program", async () => {
    const { calls, format } = await opened(
      written("m.jsonl", [header, call(0, 200, 0), call(10, 330, 192), call(20, 400, 64, "p2"), call(30, 100, 0, null)].join("\n")),
    );
    expect(format).toBe("millrace");
    expect(calls.map((c) => c.blocks)).toEqual([[1, 2, 3], [1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], []]);
    expect(calls[1]).toMatchObject({ tenant: "ten_a", program: "p1", agent: "writer", prompt_tokens: 330, output_tokens: 5 });
  });
  test.each([
    [call(0, 1, 0), 1, "the first line is no header"],
    [JSON.stringify({ format: "millrace-calls", version: 2 }), 1, "version 2"],
    [`${header}\n${call(-1, 1, 0)}`, 2, "at_us is -1"],
    [`${header}\n${JSON.stringify({ at_us: 0, prompt_tokens: 1, completion_tokens: 1, program: 7 })}`, 2, "program is 7, not text"],
  ])("refused: %s", async (text, at, what) => {
    await expect(opened(written("m.jsonl", text), {}, "millrace")).rejects.toMatchObject({ line: at, what: expect.stringContaining(what) });
  });
});
