import { expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { micros } from "../../../schema/core/time.ts";
import { makeCall, MODEL } from "../scheduler/testing.ts";
import type { Call } from "../vocabulary.ts";
import { fcfs } from "./fcfs.ts";
import { ServiceCounters } from "./service-counters.ts";
import { vtc } from "./vtc.ts";

const WEIGHTS = { prompt: 1, cached: 0, output: 2 };
const orderOf = () => vtc({ weights: WEIGHTS, inner: fcfs, idle_tenants_max: 2, models_max: 2 });
const ten = (name: string) => asId<"tenant">(name);
let made = 0;
const callOf = (tenant: string, prompt_tokens = 10): Call => {
  made += 1;
  return makeCall(`c${String(made).padStart(4, "0")}`, { tenant: ten(tenant), prompt_tokens, arrived: made });
};
const end = (prompt_tokens: number, cached_tokens: number, completion_tokens: number) => ({
  usage: { prompt_tokens, cached_tokens, completion_tokens },
  model_time: micros(0),
});

/** Places the first `n` of the queue, and returns whose they were. */
function place(order: ReturnType<typeof orderOf>, queue: ReturnType<typeof queueOf>, n: number): readonly string[] {
  return Array.from({ length: n }, () => {
    const first = queue.first();
    if (first === undefined) return "nobody";
    queue.remove(first);
    order.served(first.call, { type: "placed", hit_tokens: 0 });
    return String(first.call.tenant);
  });
}
const queueOf = (order: ReturnType<typeof orderOf>) => order.queue<{ readonly call: Call }>(MODEL);

test("tenants take turns by what they have been served, whoever came first and however many calls they sent", () => {
  const order = orderOf();
  const queue = queueOf(order);
  for (let n = 0; n < 4; n++) queue.add({ call: callOf("a") });
  for (let n = 0; n < 2; n++) queue.add({ call: callOf("b", 20) });
  // b's calls weigh twice as much.
  expect(place(order, queue, 6)).toEqual(["a", "b", "a", "a", "b", "a"]);
  expect(queue.size).toBe(0);
});

test("inside a tenant the inner order decides, and a call's place is where it would stand if tenants took turns", () => {
  const order = orderOf();
  const queue = queueOf(order);
  const items = ["a", "a", "a", "b", "b", "c"].map((tenant) => ({ call: callOf(tenant) }));
  for (const item of items.toReversed()) queue.add(item);
  expect(queue.first()).toBe(items[0]);
  // a b c, a b, a
  expect(items.map((item) => queue.placeOf(item))).toEqual([1, 4, 6, 2, 5, 3]);
});

test("output counts as it is reported, and the prompt is corrected to what the engine counted", () => {
  const order = orderOf();
  const queue = queueOf(order);
  const calls = [callOf("a", 10), callOf("b", 10), callOf("a", 10), callOf("b", 10)];
  for (const call of calls) queue.add({ call });
  expect(place(order, queue, 1)).toEqual(["a"]);
  const [first] = calls;
  if (first === undefined) throw new Error("a call");
  // a: 10 + 2·3; then 16 of its prompt turn out to have been cached.
  order.served(first, { type: "output", tokens: 3 });
  expect(place(order, queue, 1)).toEqual(["b"]);
  expect(queue.first()?.call.tenant).toBe("b");
  order.finished(first, end(16, 16, 3));
  expect(queue.first()?.call.tenant).toBe("a");
});

test("an attempt that came to nothing is taken back", () => {
  const order = orderOf();
  const queue = queueOf(order);
  const call = callOf("a");
  queue.add({ call });
  queue.add({ call: callOf("b", 5) });
  place(order, queue, 1);
  order.served(call, { type: "returned" });
  queue.add({ call });
  // Both have been served nothing: ties break by tenant.
  expect(place(order, queue, 2)).toEqual(["a", "b"]);
});

test("a tenant that was away has saved nothing: it comes back at the floor", () => {
  const order = orderOf();
  const queue = queueOf(order);
  for (let n = 0; n < 20; n++) queue.add({ call: callOf("a") });
  place(order, queue, 10);
  for (let n = 0; n < 10; n++) queue.add({ call: callOf("b") });
  // Not ten of b's to catch up: both stand where a was when it was last chosen to be least.
  expect(place(order, queue, 6)).toEqual(["a", "b", "a", "b", "a", "b"]);
});

test("who left last marks the floor of an empty queue", () => {
  const counters = new ServiceCounters(WEIGHTS, 4);
  const [a] = [callOf("a", 100)];
  if (a === undefined) throw new Error("a call");
  counters.joined(ten("a"));
  counters.left(ten("a"));
  counters.placed(a, 0);
  counters.joined(ten("b"));
  expect(counters.counterOf(ten("b"))).toBe(100);
});

test("an idle tenant above the floor is remembered, up to the limit; one at the floor is forgotten at once (I8)", () => {
  const counters = new ServiceCounters(WEIGHTS, 2);
  for (const [n, tenant] of ["a", "b", "c", "d"].entries()) {
    const call = callOf(tenant, 10 * (n + 1));
    counters.joined(ten(tenant));
    counters.left(ten(tenant));
    counters.placed(call, 0);
    counters.finished(call, end(10 * (n + 1), 0, 0));
  }
  expect(counters.tenants).toBeLessThanOrEqual(2);
  expect(counters.counterOf(ten("a"))).toBeNull();
  expect(counters.counterOf(ten("d"))).not.toBeNull();
  expect(counters.quiet).toBe(true);
});
