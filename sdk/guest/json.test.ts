import { expect, test } from "vitest";
import { toJson } from "./json.ts";

test("plain data passes as JSON has it", () => {
  expect(toJson({ a: [1, "x", null, undefined], b: undefined, c: Object.create(null) }, "output")).toEqual({
    ok: true,
    text: '{"a":[1,"x",null,null],"c":{}}',
  });
  expect(toJson(undefined, "output")).toEqual({ ok: true, text: "null" });
});

test("the same object twice is no cycle", () => {
  const shared = { x: 1 };
  expect(toJson({ a: shared, b: shared }, "output").ok).toBe(true);
});

const cycle: Record<string, unknown> = {};
cycle["self"] = { back: cycle };
let deep: unknown = 0;
for (let i = 0; i < 300; i++) deep = [deep];
test.each([
  [{ f: () => 1 }, "output.f is a function"],
  [[1n], "output[0] is a BigInt; send it as a string"],
  [{ d: new Date(0) }, "output.d is an instance of Date; return plain data"],
  [new Map(), "output is an instance of Map; return plain data"],
  [Number.NaN, "output is NaN, which JSON cannot hold"],
  [Symbol("x"), "output is a symbol"],
  [cycle, "output.self.back contains itself"],
  [{ toJSON: () => 1 }, "output has a toJSON function; return plain data"],
])("what JSON cannot hold is named (%#)", (value, detail) => {
  expect(toJson(value, "output")).toEqual({ ok: false, detail });
});

test("nesting has a bound", () => {
  const checked = toJson(deep, "output");
  expect(checked.ok ? "" : checked.detail).toContain("nested deeper than 256");
});
