/** Each hook of a fault schedule, on the smallest world that shows what it does. What comes of it is policy's, and other tests'. */
import { describe, expect, test } from "vitest";
import { asId, type InstanceId, type NodeId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { createFold } from "../policy/metering/fold.ts";
import { CELL } from "./records.ts";
import { call, clusterOf, pool, run, second, these, type Told } from "./testing.ts";
import type { Arrival, World } from "./types.ts";

const TWO_PAIRS = clusterOf([pool("prefill", 2), pool("decode", 2)], { nodes: 2, gpus_per_node: 2 });
const instance = (name: string) => name as InstanceId;
const node = (name: string) => name as NodeId;
/** Ten calls at once, each of about six seconds. */
const crowd = (count = 10): Arrival[] =>
  Array.from({ length: count }, (_, n) => call(`call_${n}`, 0, { output_tokens: 256, prompt_tokens: 1_000 }));
const failures = ({ said }: Told) =>
  said.flatMap(({ event, now }) => (event.type === "leg_failed" ? [{ cause: event.error.cause, now }] : []));
const ends = ({ calls }: Told) => calls.map(({ outcome }) => outcome.type);
const at = (s: number, act: (world: World) => void) => (world: World) => world.at(micros(s * 1e6), () => act(world));
/** Whatever happened, GPU time is conserved and no record contradicts another. */
function sound(told: Told): Told {
  const fold = createFold(CELL);
  expect(told.records.flatMap((record) => fold.apply(record).filter(({ type }) => type === "anomaly"))).toEqual([]);
  expect(fold.open_calls()).toEqual([]);
  return told;
}

test("a killed decode instance: its streams are cut, its group is lost and launched anew; those that had a token fail", () => {
  const told = sound(
    run(
      TWO_PAIRS,
      these(crowd()),
      at(3, (world) => expect(world.killInstance(instance("decode-001"))).toBe(true)),
    ),
  );
  expect(failures(told)).toEqual(Array.from({ length: 5 }, () => ({ cause: "stream_cut", now: second(3) + 500 })));
  expect(told.said.find(({ event }) => event.type === "group_lost")?.now).toBe(second(3) + 250_000);
  expect(told.records.filter(({ type }) => type === "group_ended")).toHaveLength(1);
  expect(told.said.flatMap(({ effects }) => effects).filter(({ type }) => type === "launch_group")).toHaveLength(1);
  expect(ends(told).toSorted()).toEqual([...Array.from({ length: 5 }, () => "done"), ...Array.from({ length: 5 }, () => "failed")]);
});

test("a killed prefill instance: what it computed or held is computed again elsewhere", () => {
  const told = sound(
    run(
      TWO_PAIRS,
      these(crowd()),
      at(0.1, (world) => world.killInstance(instance("prefill-001"))),
    ),
  );
  expect(failures(told).length).toBeGreaterThan(0);
  expect(new Set(ends(told))).toEqual(new Set(["done"]));
  expect(run(TWO_PAIRS, these(crowd(1)), (world) => expect(world.killInstance(instance("prefill-009"))).toBe(false)).calls).toHaveLength(1);
});

test("slow and hanging instances: later, no less", () => {
  const one = clusterOf([pool("both", 1)]);
  const ended = (setup?: (world: World) => void) => Number(sound(run(one, these(crowd(1)), setup)).calls[0]?.ended);
  const plain = ended();
  const slow = ended(at(1, (world) => world.slowInstance(instance("both-001"), 3, second(4))));
  expect(slow - plain).toBeGreaterThan(second(1.9));
  expect(slow - plain).toBeLessThan(second(2.1));
  expect(ended(at(1, (world) => world.hangInstance(instance("both-001"), second(4)))) - plain).toBeGreaterThan(second(2.9));
});

test("a partitioned node: streams are cut, new legs cannot connect, and silence condemns its instances", () => {
  const later = [3.1, 3.1, 3.1, 3.1, 10].map((s, n) => call(`later_${n}`, second(s), { output_tokens: 20 }));
  const told = sound(
    run(
      TWO_PAIRS,
      these([...crowd(), ...later]),
      at(3, (world) => world.partition(node("node-002"), second(8))),
    ),
  );
  const causes = new Set(failures(told).map(({ cause }) => cause));
  expect(causes.has("stream_cut")).toBe(true);
  expect(told.said.filter(({ event }) => event.type === "instance_state" && event.state === "lost")).toHaveLength(2);
  expect(told.calls.filter(({ call: { call_id } }) => call_id.startsWith("later")).map(({ outcome }) => outcome.type)).toEqual(
    Array.from({ length: 5 }, () => "done"),
  );
});

describe("a P→D transfer", () => {
  const pair = clusterOf([pool("prefill", 1), pool("decode", 1)]);
  const long = second(100);
  test("that is lost is noticed after 5 s: prefilled again", () => {
    let fired = 0;
    const told = sound(run(pair, these(crowd(1)), (world) => world.nextTransfer({ type: "lost" }, long, () => fired++)));
    expect(fired).toBe(1);
    expect(failures(told).map(({ cause }) => cause)).toEqual(["kv_lost"]);
    expect(told.calls[0]?.transfer).toBeLessThan(10_000);
    expect(told.calls[0]?.first_token).toBeGreaterThan(second(5));
  });
  test("that is late makes the call late; past the lease nothing is lost, for decode renews it", () => {
    const told = sound(run(pair, these(crowd(1)), (world) => world.nextTransfer({ type: "late", by: second(70) }, long)));
    expect(told.calls[0]).toMatchObject({ outcome: { type: "done" } });
    expect(told.calls[0]?.transfer).toBeGreaterThan(second(70));
    expect(told.reads).toMatchObject([{ type: "pulled", found: { tenant: "ten_a" } }]);
  });
  test("that comes twice counts once", () => {
    const told = sound(run(pair, these(crowd(1)), (world) => world.nextTransfer({ type: "duplicated", after: second(1) }, long)));
    expect(told.calls[0]).toMatchObject({ outcome: { type: "done" }, output_tokens: 256 });
  });
  test("a fault whose time is over hits none", () => {
    const told = run(pair, these(crowd(1)), (world) => world.nextTransfer({ type: "lost" }, micros(10)));
    expect(failures(told)).toEqual([]);
  });
});

test("a cancelled call: its leg is closed, and the engine computes no more of it", () => {
  const told = sound(
    run(
      clusterOf([pool("both", 1)]),
      these(crowd(1)),
      at(1, (world) => world.cancelCall(asId<"call">("call_0"), "client_gone")),
    ),
  );
  expect(told.calls[0]).toMatchObject({ outcome: { type: "cancelled" }, ended: second(1) + 500 });
  expect(told.instances[0]?.busy).toBeLessThan(second(1.1));
});

test("a gateway that dies and starts again: open calls end, engines are let go of, groups adopted, its books go on", () => {
  const late = call("late", second(5), { output_tokens: 20 });
  const down = call("down", second(2.5), { output_tokens: 20 });
  const told = sound(
    run(
      TWO_PAIRS,
      these([...crowd(), down, late]),
      at(2, (world) => world.restartGateway(second(1))),
    ),
  );
  expect(told.calls.map(({ outcome }) => ("failure" in outcome ? outcome.failure.code : outcome.type))).toEqual([
    ...Array.from({ length: 10 }, () => "gateway_lost"),
    "gateway_unavailable",
    "done",
  ]);
  expect(told.records.filter(({ type }) => type === "boot")).toHaveLength(2);
  expect(
    told.records.flatMap((record) => (record.type === "call_ended" && record.code === "gateway_lost" ? [record.call] : [])),
  ).toHaveLength(10);
  expect(told.said.flatMap(({ effects }) => effects).filter(({ type }) => type === "launch_group")).toEqual([]);
});

test("a call may come from beside the clients, and twice: then it is the same call", () => {
  const { sim } = call("beside", 0);
  const told = sound(
    run(TWO_PAIRS, these([]), (world) => {
      world.at(second(1), () => world.submit(sim));
      world.at(micros(second(1) + 10), () => world.submit(sim));
    }),
  );
  expect(told.calls).toHaveLength(1);
  expect(told.said.filter(({ event }) => event.type === "call_arrived")).toHaveLength(2);
});
