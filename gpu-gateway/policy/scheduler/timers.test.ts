import * as fc from "fast-check";
import { expect, test } from "vitest";
import { micros } from "../../../schema/core/time.ts";
import { Timer, Timers } from "./timers.ts";

test("timers fire in the order of their instants, equal ones in the order in which they were made (I9)", () => {
  const timers = new Timers();
  const fired: string[] = [];
  const make = (name: string, at: number) => timers.set(new Timer(() => fired.push(name)), micros(at));
  for (const [name, at] of [
    ["late", 9],
    ["first", 3],
    ["second", 3],
    ["early", 1],
  ] as const)
    make(name, at);
  expect(timers.earliest()).toBe(1);
  for (let due = timers.due(micros(5)); due !== null; due = timers.due(micros(5))) due.fire(micros(5));
  expect(fired).toEqual(["early", "first", "second"]);
  expect(timers.earliest()).toBe(9);
});

test("setting, moving and clearing in any order: the earliest is always the earliest", () => {
  const change = fc.record({ which: fc.nat(40), at: fc.nat(100), clear: fc.boolean() });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 200, size: "max" }), (changes) => {
      const timers = new Timers();
      const all = Array.from({ length: 41 }, () => new Timer(() => {}));
      const model = new Map<Timer, number>();
      for (const { which, at, clear } of changes) {
        const timer = all[which]!;
        if (clear) {
          timers.clear(timer);
          model.delete(timer);
        } else {
          timers.set(timer, micros(at));
          model.set(timer, at);
        }
        expect(timers.size).toBe(model.size);
        expect(timers.earliest()).toBe(model.size === 0 ? null : Math.min(...model.values()));
      }
      const order: number[] = [];
      for (let due = timers.due(micros(100)); due !== null; due = timers.due(micros(100))) order.push(due.at);
      expect(order).toEqual([...model.values()].sort((a, b) => a - b));
    }),
    { numRuns: 200 },
  );
});
