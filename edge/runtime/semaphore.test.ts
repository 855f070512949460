import { expect, test } from "vitest";
import { Semaphore } from "./semaphore.ts";

test("never more than the limit at once, in order of arrival", async () => {
  const semaphore = new Semaphore(3);
  const gates = Array.from({ length: 10 }, () => Promise.withResolvers<void>());
  const started: number[] = [];
  const all = gates.map((gate, i) =>
    semaphore.run(async () => {
      started.push(i);
      await gate.promise;
    }),
  );
  expect(started).toEqual([0, 1, 2]);
  expect(semaphore.waiting).toBe(7);
  for (const gate of gates) gate.resolve();
  await Promise.all(all);
  expect(started).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect([semaphore.peak, semaphore.in_use, semaphore.waiting]).toEqual([3, 0, 0]);
});

test("work that throws gives its place back", async () => {
  const semaphore = new Semaphore(1);
  const failing = semaphore.run(async () => {
    throw new Error("boom");
  });
  const after = semaphore.run(async () => "ran");
  await expect(failing).rejects.toThrow("boom");
  await expect(after).resolves.toBe("ran");
  expect(semaphore.in_use).toBe(0);
});
