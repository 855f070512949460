import * as fc from "fast-check";
import { expect, test } from "vitest";
import { EVENT_CHARS_MAX, SseParser } from "./sse.ts";
import type { SseEvent } from "./sse.ts";

const parse = (...chunks: Uint8Array[]): SseEvent[] => {
  const events: SseEvent[] = [];
  const parser = new SseParser((event) => events.push(event));
  for (const chunk of chunks) parser.push(chunk);
  return events;
};
const bytes = (text: string) => new TextEncoder().encode(text);
const data = (...values: string[]): SseEvent[] => values.map((value) => ({ type: "data", data: value }));

test("events, comments, other fields, several data lines, byte order mark", () => {
  const text = '\uFEFFevent: x\ndata: {"a":1}\n\n: comment\n\ndata:no space\ndata: and more\nid: 7\nretry: 5\n\ndata\n\n';
  expect(parse(bytes(text))).toEqual(data('{"a":1}', "no space\nand more", ""));
});

test("an event is not given out before its blank line, nor at the end of the stream", () => {
  expect(parse(bytes("data: half"), bytes("\n"))).toEqual([]);
});

test("split anywhere, with any line end, also inside characters: the same events", () => {
  const value = fc.string({ unit: "grapheme" }).map((text) => text.replaceAll(/[\r\n]/g, ""));
  const cuts = fc.array(fc.nat(400), { maxLength: 12 });
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 6 }), fc.constantFrom("\n", "\r\n", "\r"), cuts, (values, eol, at) => {
      const whole = bytes(values.map((each) => `data: ${each}${eol}${eol}`).join(""));
      const points = [0, ...at.filter((point) => point < whole.length).toSorted((a, b) => a - b), whole.length];
      const chunks = points.slice(1).map((end, index) => whole.subarray(points[index], end));
      expect(parse(...chunks)).toEqual(data(...values));
      expect(parse(...Array.from(whole, (byte) => Uint8Array.of(byte)))).toEqual(data(...values));
    }),
  );
});

test("what is no event-stream field is a fault, and so is an endless event", () => {
  expect(parse(bytes("<html>\n"))[0]?.type).toBe("fault");
  expect(parse(Uint8Array.of(0, 255, 254, 10))[0]?.type).toBe("fault");
  expect(parse(bytes(`data: ${"x".repeat(EVENT_CHARS_MAX)}`))[0]?.type).toBe("fault");
});
