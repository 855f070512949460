import { expect, test } from "vitest";
import { endAll } from "./end-all.ts";

test("a step that fails skips none of the rest, and is told at the end", async () => {
  const done: number[] = [];
  const fails = (what: string) => () => Promise.reject(new Error(what));
  const throws = () => {
    throw new Error("b");
  };
  const steps = [() => void done.push(1), fails("a"), async () => void done.push(2), throws, () => void done.push(3)];
  await expect(endAll(steps)).rejects.toThrow("not everything could be stopped: a; b");
  expect(done).toEqual([1, 2, 3]);
  await endAll([]);
});
