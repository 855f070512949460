import { array, assert, boolean, constantFrom, integer, property, record, tuple } from "fast-check";
import { describe, expect, test } from "vitest";
import { failure } from "../../schema/core/errors.ts";
import { LINK_BUFFER_FRAMES_MAX } from "../../schema/core/wire/limits.ts";
import type { LegDelta } from "../ports/engine.ts";
import { CallOutput, type OutputFrame } from "./output.ts";

const said = (content: string, more: Partial<LegDelta> = {}): LegDelta => ({
  choice: 0,
  delta: { content },
  tokens: 1,
  finish_reason: null,
  ...more,
});
const usage = { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 1 };
const done = { finish_reason: "stop", usage, legs: [] };

function rest(output: CallOutput, cursor = 0): OutputFrame[] {
  const frames: OutputFrame[] = [];
  for (let frame = output.take(cursor); frame !== undefined; frame = output.take(frame.n)) frames.push(frame);
  return frames;
}

describe("the output of a call", () => {
  test("nothing is readable before the call is in the journal (D4)", () => {
    const output = new CallOutput(true);
    output.append(said("a"));
    expect(rest(output)).toEqual([]);
    output.accept();
    expect(rest(output)).toHaveLength(1);
  });

  test("a refusal at the door is readable at once", () => {
    const output = new CallOutput(false);
    output.refuse({ failure: failure("queue_full"), emitted: 0, usage: null, retry_after_ms: 5 });
    expect(rest(output)).toMatchObject([{ type: "refused", n: 1 }]);
    expect(output.accepted).toBe(false);
  });

  test("what nobody has taken grows; what was taken is fixed", () => {
    const output = new CallOutput(true);
    output.accept();
    output.append(said("a"));
    output.append(said("b"));
    expect(output.take(0)).toMatchObject({ n: 1, delta: { content: "ab" }, tokens: 2 });
    output.append(said("c"));
    expect(output.take(0)).toMatchObject({ delta: { content: "ab" } });
    expect(output.take(1)).toMatchObject({ n: 2, delta: { content: "c" } });
  });

  test("a call ends once", () => {
    const output = new CallOutput(true);
    output.accept();
    output.done(done);
    output.refuse({ failure: failure("internal"), emitted: 0, usage: null, retry_after_ms: null });
    output.append(said("late"));
    expect(rest(output).map((frame) => frame.type)).toEqual(["done"]);
  });

  test("text beyond the bound that nobody takes is told of", () => {
    const output = new CallOutput(true);
    output.accept();
    const megabyte = "x".repeat(1_048_576);
    expect([1, 2, 3].map(() => output.append(said(megabyte)))).toEqual(["kept", "kept", "kept"]);
    expect(output.append(said(megabyte))).toBe("overflow");
  });

  test("frames beyond the buffer: the oldest go, and a reader that needs them is told so", () => {
    const output = new CallOutput(true);
    output.accept();
    for (let i = 0; i < LINK_BUFFER_FRAMES_MAX + 10; i++) output.append({ ...said(""), delta: { tool_calls: [{ index: i }] } });
    expect(output.kept).toBe(LINK_BUFFER_FRAMES_MAX);
    expect(output.has(0)).toBe(false);
    expect(output.has(10)).toBe(true);
    expect(output.take(10)).toMatchObject({ n: 11 });
  });

  test("an output that nobody can come back for keeps one frame", () => {
    const output = new CallOutput(false);
    output.accept();
    for (let cursor = 0; cursor < 100; cursor++) {
      output.append(said("a"));
      output.take(cursor);
    }
    expect(output.kept).toBe(1);
  });

  test("any interleaving of readers: no gap, no repeat, the same text for all", () => {
    const step = record({ read: boolean(), who: integer({ min: 0, max: 2 }), kind: constantFrom("text", "tool", "role") });
    assert(
      property(array(tuple(step, integer({ min: 0, max: 99 })), { maxLength: 200 }), (steps) => {
        const output = new CallOutput(true);
        output.accept();
        const readers: OutputFrame[][] = [[], [], []];
        let text = "";
        for (const [{ read, who, kind }, value] of steps) {
          const mine = readers[who]!;
          if (read) {
            const frame = output.take(mine.at(-1)?.n ?? 0);
            if (frame !== undefined) mine.push(frame);
            continue;
          }
          if (kind !== "tool") text += String(value);
          const delta =
            kind === "tool"
              ? { tool_calls: [value] }
              : kind === "role"
                ? { role: "assistant", content: String(value) }
                : { content: String(value) };
          output.append({ ...said(""), delta });
        }
        output.done(done);
        for (const mine of readers) {
          mine.push(...rest(output, mine.at(-1)?.n ?? 0));
          expect(mine.map((frame) => frame.n)).toEqual(mine.map((_, i) => i + 1));
          expect(
            mine
              .map((frame) => (frame.type === "token" && typeof frame.delta["content"] === "string" ? frame.delta["content"] : ""))
              .join(""),
          ).toBe(text);
        }
      }),
    );
  });
});
