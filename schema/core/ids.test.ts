import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ID_PATTERN, type ProgramId, callId, deriveId, legId, randomId } from "./ids.ts";

test("different parts give different ids: (b-c, d) is not (b, c-d)", () => {
  expect(deriveId("usage", "b-c", "d")).not.toBe(deriveId("usage", "b", "c-d"));
  fc.assert(
    fc.property(fc.array(fc.string()), fc.array(fc.string()), (a, b) => {
      const same = a.length === b.length && a.every((part, i) => part === b[i]);
      return (deriveId("usage", ...a) === deriveId("usage", ...b)) === same;
    }),
  );
});

test("the same parts under two kinds are two things", () => {
  expect(deriveId("call", "x").split("_")[1]).not.toBe(deriveId("run", "x").split("_")[1]);
});

test("every id that we make is one that we accept", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 32 }), fc.string(), (entropy, path) => {
      const run = randomId("run", entropy);
      const call = callId(run as string as ProgramId, path);
      return [run, call, legId(call, 0, "prefill")].every((id) => ID_PATTERN.test(id));
    }),
  );
  expect(() => randomId("run", new Uint8Array(15))).toThrow(RangeError);
});

test("an id is safe in a URL, a file name and a log line", () => {
  for (const bad of ["", "-", " a", "a b", "a\n", "ä", "a".repeat(129), "_a", "a?b", "a#b", "a%b"])
    expect(ID_PATTERN.test(bad), bad).toBe(false);
  for (const good of ["a", "ten_1", "ses_1/turn-2", "a.b:c"]) expect(ID_PATTERN.test(good), good).toBe(true);
});
