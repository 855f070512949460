import { expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { Feed } from "./feed.ts";
import { EVENTS_KEPT_MAX } from "./limits.ts";
import type { NodeEvent } from "./wire.ts";

const stopped = (n: number): NodeEvent => ({ type: "group_stopped", group_id: asId<"group">(`grp_${n}`) });
const never = new AbortController().signal;
const LONG_MS = 20_000;

test("a reader that waits is told at once, and from then on only what is new", async () => {
  const feed = new Feed("s");
  const read = feed.read("s", 0, LONG_MS, never);
  feed.push(stopped(1));
  expect(await read).toEqual({ type: "events", seq: 1, events: [stopped(1)] });
  feed.push(stopped(2));
  feed.push(stopped(3));
  expect(await feed.read("s", 1, LONG_MS, never)).toEqual({ type: "events", seq: 3, events: [stopped(2), stopped(3)] });
});

test("a bounded number is kept: who is further behind starts over, who is not misses nothing", async () => {
  const feed = new Feed("s");
  for (let n = 1; n <= EVENTS_KEPT_MAX + 5; n++) feed.push(stopped(n));
  expect(await feed.read("s", 4, LONG_MS, never)).toEqual({ type: "behind" });
  const read = await feed.read("s", 5, LONG_MS, never);
  expect(read.type === "events" && [read.events.length, read.events[0]]).toEqual([EVENTS_KEPT_MAX, stopped(6)]);
});

test("a reader of another agent's stream starts over at once", async () => {
  expect(await new Feed("s").read("other", 0, LONG_MS, never)).toEqual({ type: "behind" });
});

test("a wait ends with its reader, and with the feed", async () => {
  const feed = new Feed("s");
  const gone = new AbortController();
  const abandoned = feed.read("s", 0, LONG_MS, gone.signal);
  gone.abort();
  expect(await abandoned).toEqual({ type: "events", seq: 0, events: [] });
  const open = feed.read("s", 0, LONG_MS, never);
  feed.close();
  expect(await open).toEqual({ type: "events", seq: 0, events: [] });
  expect(await feed.read("s", 0, LONG_MS, never)).toEqual({ type: "events", seq: 0, events: [] });
});
