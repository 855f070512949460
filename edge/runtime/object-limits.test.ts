import { expect, test } from "vitest";
import { ACTIVE_WORKERS_PER_OBJECT_MAX, PENDING_CONNECTIONS_MAX } from "../../schema/core/wire/limits.ts";
import { objectLimits } from "./object-limits.ts";

test("an object has the platform's limits, one and the same for all that runs in it", () => {
  const object = {} as DurableObjectState;
  const { workers, connections } = objectLimits(object);
  expect([workers.limit, connections.limit]).toEqual([ACTIVE_WORKERS_PER_OBJECT_MAX, PENDING_CONNECTIONS_MAX - 1]);
  expect(objectLimits(object)).toBe(objectLimits(object));
  expect(objectLimits({} as DurableObjectState).workers).not.toBe(workers);
});
