import { expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import { baselinePolicies } from "./defaults.ts";
import { createScheduler } from "./scheduler.ts";
import { DEFAULT_LIMITS } from "./scheduler/limits.ts";
import { brief, CAPABILITIES, Desk, makeInstance, ofType, second } from "./scheduler/testing.ts";

const P1 = makeInstance("p1", "prefill");
const P2 = makeInstance("p2", "prefill");
const D1 = makeInstance("d1", "decode");
const D2 = makeInstance("d2", "decode");
const pair = () => new Desk().up(P1, D1);
const two_pairs = () => new Desk().up(P1, P2, D1, D2);

/** Nothing is left of any call: books, legs, reservations and queues are empty. */
const expectQuiet = (desk: Desk) => {
  const snapshot = desk.scheduler.snapshot();
  expect(snapshot).toMatchObject({ calls: 0, queues: [], legs: 0, holding: 0, reservations: 0 });
  for (const instance of snapshot.instances)
    expect(instance).toMatchObject({ legs: 0, reserved: 0, deferred_pulls: 0, prefill_tokens: 0, kv_tokens: 0 });
};

test("a call runs in two legs: decode reserved before prefill starts (D3), one end (I2)", () => {
  const desk = pair();
  expect(brief(desk.arrive("c"))).toEqual(["reserve d1 for c", "start c.0.prefill on p1"]);
  expect(desk.accepted("c.0.prefill")).toEqual([]);
  expect(brief(desk.at(second(1)).finished("c.0.prefill", 1, 32))).toEqual(["start c.0.decode on d1"]);
  const [decode] = ofType(desk.all, "start_leg").slice(-1);
  expect(decode).toMatchObject({ from_leg: { leg_id: "c.0.prefill", instance_id: "p1" }, accept_by: second(1 + 30 - 5) });
  desk.accepted("c.0.decode");
  desk.firstToken("c.0.decode");
  const end = desk.finished("c.0.decode", 20, 99);
  expect(brief(end)).toEqual(["release d1 for c", "end c: done stop"]);
  // Prompt and cached tokens from prefill, completion tokens from decode (D5).
  expect(ofType(end, "end_call")[0]?.outcome).toMatchObject({
    usage: { prompt_tokens: 100, cached_tokens: 32, completion_tokens: 20 },
  });
  expectQuiet(desk);
});

test("a call id that is live already is ignored, and after the end every report of its legs is too (I2)", () => {
  const desk = pair();
  desk.arrive("c");
  expect(desk.arrive("c")).toEqual([]);
  desk.finished("c.0.prefill");
  desk.finished("c.0.decode");
  expect(brief(desk.finished("c.0.decode"))).toEqual([]);
  expect(brief(desk.failed("c.0.decode"))).toEqual([]);
  expect(brief(desk.cancelled("c.0.prefill"))).toEqual([]);
  expect(brief(desk.released("c.0.prefill"))).toEqual([]);
  expect(brief(desk.cancel("c"))).toEqual([]);
  expect(ofType(desk.all, "end_call")).toHaveLength(1);
});

test("a rejected call is never queued and nothing more comes for it (I2)", () => {
  const desk = pair();
  expect(brief(desk.arrive("c", { max_tokens: 100_000 }))).toEqual(["reject c: context_too_long"]);
  expect(brief(desk.cancel("c"))).toEqual([]);
  expectQuiet(desk);
});

test("a call that nothing could ever serve is shed, and those behind it go on", () => {
  const desk = new Desk().up(makeInstance("p1", "prefill"), makeInstance("d1", "decode", { kv_tokens: 1_000 }));
  expect(brief(desk.arrive("c", { prompt_tokens: 2_000 }))).toEqual(["end c: shed context_too_long"]);
  expect(brief(desk.arrive("d"))).toEqual(["reserve d1 for d", "start d.0.prefill on p1"]);
});

test("slots are never exceeded: calls wait, hear their place, and go when a slot is freed", () => {
  const desk = new Desk().up(makeInstance("b1", "both", { slots: 1 }));
  expect(brief(desk.arrive("a"))).toEqual(["start a.0.whole on b1"]);
  expect(brief(desk.arrive("b"))).toEqual(["progress b: 1"]);
  expect(brief(desk.arrive("c"))).toEqual(["progress c: 2"]);
  expect(brief(desk.finished("a.0.whole"))).toEqual(["end a: done stop", "start b.0.whole on b1", "progress c: 1"]);
});

test("a queued client hears its place only when it at least halves (I8)", () => {
  const desk = new Desk().up(makeInstance("b1", "both", { slots: 1 }));
  for (let n = 0; n < 100; n++) desk.at(micros(n)).arrive(`c${String(n).padStart(3, "0")}`);
  for (let n = 0; n < 99; n++) desk.finished(`c${String(n).padStart(3, "0")}.0.whole`);
  const heard = ofType(desk.all, "progress").filter(({ call_id }) => call_id === asId<"call">("c099"));
  expect(heard.map(({ position }) => position)).toEqual([99, 16, 4, 1]);
});

test("deferred pulls are capped per decode instance (D3)", () => {
  const desk = new Desk({ limits: { deferred_pulls_max: 2 } }).up(P1, D1);
  desk.arrive("a");
  desk.arrive("b");
  expect(brief(desk.arrive("c"))).toEqual(["progress c: 1"]);
  // Prefilled, but not pulled yet: the decode leg has only been started.
  expect(brief(desk.finished("a.0.prefill"))).toEqual(["start a.0.decode on d1"]);
  expect(brief(desk.accepted("a.0.decode"))).toEqual([]);
  expect(brief(desk.released("a.0.prefill"))).toEqual(["reserve d1 for c", "start c.0.prefill on p1"]);
});

test("a routing policy that ignores the books starts nothing (D3)", () => {
  const careless = { route: () => ({ type: "two_legs", prefill: P1.instance_id, decode: D1.instance_id }) as const };
  const desk = new Desk({ limits: { deferred_pulls_max: 100 } }, { routing: careless }).up(P1, D1);
  for (const id of ["a", "b", "c", "d", "e"]) desk.arrive(id);
  expect(ofType(desk.all, "reserve_decode")).toHaveLength(D1.slots);
  desk.enter("d1", "draining");
  expect(brief(desk.arrive("f"))).toEqual(["progress f: 2"]);
});

test("a decode leg that is not accepted inside the lease less its margin is cancelled and the prompt prefilled again, elsewhere (I3)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  const { kv_lease_margin, cancel_bound } = DEFAULT_LIMITS;
  expect(brief(desk.at(micros(P1.kv_lease - kv_lease_margin - 1)).timer())).toEqual([]);
  expect(brief(desk.at(micros(P1.kv_lease - kv_lease_margin)).timer())).toEqual(["cancel c.0.decode: kv_lease"]);
  // Accepted after all, too late: it reads KV that may be another prompt's by now.
  expect(brief(desk.accepted("c.0.decode"))).toEqual([]);
  desk.at(micros(desk.now + cancel_bound - 1));
  expect(brief(desk.cancelled("c.0.decode"))).toEqual(["release d1 for c", "reserve d2 for c", "start c.1.prefill on p1"]);
});

test("an acceptance that is reported after the instant is late even if the timer is later still (I3)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  expect(brief(desk.at(second(26)).accepted("c.0.decode"))).toEqual(["cancel c.0.decode: kv_lease"]);
});

test("lease misses are bounded: after failures_max attempts the call fails", () => {
  const desk = two_pairs();
  desk.arrive("c");
  for (let attempt = 0; attempt < DEFAULT_LIMITS.failures_max; attempt++) {
    if (ofType(desk.all, "start_leg").length < 2 * attempt + 1) desk.at(micros(desk.now + second(10))).timer();
    desk.finished(`c.${attempt}.prefill`);
    desk.at(micros(desk.now + second(25))).timer();
    desk.cancelled(`c.${attempt}.decode`);
  }
  expect(brief(desk.all).at(-1)).toBe("end c: failed engine_failed");
  desk.at(micros(desk.now + second(60))).timer();
  expectQuiet(desk);
});

test("a prefill that fails is tried again on another instance (D4)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  expect(brief(desk.failed("c.0.prefill", "connect"))).toEqual(["release d1 for c", "reserve d1 for c", "start c.1.prefill on p2"]);
});

test("a decode that fails before its first token is tried again from prefill, on another decode instance (D4)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  desk.accepted("c.0.decode");
  const effects = brief(desk.failed("c.0.decode"));
  expect(effects.slice(0, 2)).toEqual(["release d1 for c", "reserve d2 for c"]);
  expect(effects[2]).toMatch(/^start c\.1\.prefill on /);
  expect(desk.scheduler.snapshot().holding).toBe(1);
  desk.released("c.0.prefill");
  expect(desk.scheduler.snapshot().holding).toBe(0);
});

test("after the first token a failure is final, and says how much was sent (D4)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  desk.firstToken("c.0.decode");
  const effects = desk.failed("c.0.decode", "stream_cut", 7);
  expect(ofType(effects, "end_call")[0]?.outcome).toMatchObject({ type: "failed", failure: { code: "engine_failed" }, emitted: 7 });
  expectQuiet(desk);
});

test("what the engine refuses is not tried again (D4)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  expect(brief(desk.failed("c.0.prefill", "rejected"))).toEqual(["release d1 for c", "end c: failed engine_rejected"]);
});

test("attempts are bounded: the last failure is the call's (I8)", () => {
  const desk = two_pairs();
  desk.arrive("c");
  desk.failed("c.0.prefill");
  desk.failed("c.1.prefill");
  // Both prefill instances have failed it by now: the next attempt rests first.
  desk.at(second(1)).timer();
  expect(brief(desk.failed("c.2.prefill"))).toEqual(["release d1 for c", "end c: failed engine_failed"]);
  expectQuiet(desk);
});

test("a call whose only instance failed it rests, longer each time, before that one is tried again", () => {
  const desk = pair();
  desk.arrive("c");
  expect(brief(desk.failed("c.0.prefill"))).toEqual(["release d1 for c"]);
  expect(brief(desk.at(micros(DEFAULT_LIMITS.retry_rest - 1)).timer())).toEqual([]);
  expect(brief(desk.at(DEFAULT_LIMITS.retry_rest).timer())).toEqual(["reserve d1 for c", "start c.1.prefill on p1"]);
  desk.failed("c.1.prefill");
  expect(brief(desk.at(micros(DEFAULT_LIMITS.retry_rest * 3)).timer())).toEqual(["reserve d1 for c", "start c.2.prefill on p1"]);
});

test("a retried call waits for a good instance that is busy rather than going back to the one that failed it", () => {
  const desk = new Desk().up(makeInstance("b1", "both", { slots: 1 }), makeInstance("b2", "both", { slots: 1 }));
  desk.arrive("a");
  desk.arrive("b");
  expect(brief(desk.failed("a.0.whole"))).toEqual([]);
  expect(brief(desk.finished("b.0.whole"))).toEqual(["end b: done stop", "start a.1.whole on b2"]);
});

test("an instance that could not be reached gets no leg while it rests, and the call keeps its attempts (D4)", () => {
  const desk = pair();
  desk.arrive("c");
  const { unreachable_rest, failures_max } = DEFAULT_LIMITS;
  for (let attempt = 0; attempt <= failures_max; attempt++) {
    expect(brief(desk.failed(`c.${attempt}.prefill`, "connect"))).toEqual(["release d1 for c"]);
    expect(desk.scheduler.snapshot().queues).toMatchObject([{ queued: 1 }]);
    expect(brief(desk.at(micros(desk.now + unreachable_rest - 1)).timer())).toEqual([]);
    const next = brief(desk.at(micros(desk.now + 1)).timer());
    expect(next).toEqual(["reserve d1 for c", `start c.${attempt + 1}.prefill on p1`]);
  }
  // What did go wrong at an engine still counts, from the beginning.
  expect(brief(desk.failed(`c.${failures_max + 1}.prefill`))).toEqual(["release d1 for c"]);
  expect(ofType(desk.all, "end_call")).toEqual([]);
});

test("others that arrive while an instance rests wait too; its next good sample, or its coming up again, ends the rest", () => {
  const desk = pair();
  desk.arrive("a");
  desk.failed("a.0.prefill", "connect");
  expect(brief(desk.arrive("b"))).toEqual(["progress b: 2"]);
  const sample = { running: 0, waiting: 0, kv_usage_ppm: 0 };
  const sampled = brief(desk.send({ type: "instance_sampled", instance_id: P1.instance_id, ...sample }));
  expect(sampled).toEqual(["reserve d1 for a", "start a.1.prefill on p1", "reserve d1 for b", "start b.0.prefill on p1"]);
  desk.failed("a.1.prefill", "connect");
  expect(brief(desk.enter("p1", "ready"))).toEqual(["reserve d1 for a", "start a.2.prefill on p1"]);
});

test("a call that no instance can be reached for is shed at its deadline, not before", () => {
  const desk = pair();
  desk.arrive("c", { deadline: second(1) });
  desk.failed("c.0.prefill", "connect");
  expect(brief(desk.at(micros(second(1) - 1)).timer())).toEqual([]);
  expect(brief(desk.at(second(1)).timer())).toEqual(["end c: shed deadline_exceeded"]);
  expectQuiet(desk);
});

test("a prefill that finished before its cancel reached it holds its KV until the lease is over", () => {
  const desk = pair();
  desk.arrive("c");
  expect(brief(desk.cancel("c"))).toEqual(["cancel c.0.prefill: client_gone"]);
  expect(brief(desk.finished("c.0.prefill"))).toEqual(["release d1 for c", "end c: cancelled client_gone"]);
  const held = desk.scheduler.snapshot();
  expect(held.holding).toBe(1);
  expect(held.instances.find(({ instance_id }) => instance_id === P1.instance_id)?.kv_tokens).toBeGreaterThan(0);
  desk.at(P1.kv_lease).timer();
  expectQuiet(desk);
});

test("a lost decode instance: its legs are cancelled, calls without a token start over, others end partial", () => {
  const desk = two_pairs();
  desk.arrive("silent");
  desk.finished("silent.0.prefill");
  desk.enter("d2", "draining");
  desk.arrive("talking");
  desk.finished("talking.0.prefill");
  desk.firstToken("talking.0.decode");
  desk.enter("d2", "ready");
  expect(brief(desk.enter("d1", "lost"))).toEqual(["cancel silent.0.decode: instance_lost", "cancel talking.0.decode: instance_lost"]);
  expect(brief(desk.cancelled("silent.0.decode"))).toEqual([
    "release d1 for silent",
    "reserve d2 for silent",
    "start silent.1.prefill on p1",
  ]);
  expect(brief(desk.failed("talking.0.decode", "stream_cut", 3))).toEqual(["release d1 for talking", "end talking: failed engine_failed"]);
});

test("a lost prefill instance: a call whose KV it holds starts over; one whose KV was pulled goes on", () => {
  const desk = two_pairs();
  desk.arrive("held");
  desk.finished("held.0.prefill");
  desk.accepted("held.0.decode");
  desk.enter("p2", "draining");
  desk.arrive("pulled");
  desk.finished("pulled.0.prefill");
  desk.firstToken("pulled.0.decode");
  desk.enter("p2", "ready");
  const lost = brief(desk.send({ type: "group_lost", group_id: P1.group_id, reason: "node died" }));
  expect(lost).toEqual(["cancel held.0.decode: kv_lost"]);
  const [, , restarted] = brief(desk.cancelled("held.0.decode"));
  expect(restarted).toBe("start held.1.prefill on p2");
  expect(brief(desk.finished("pulled.0.decode")).at(-1)).toBe("end pulled: done stop");
});

test("a decode instance that drains lets its legs end, gets no new one, and calls reserved there start over elsewhere", () => {
  const desk = two_pairs();
  desk.arrive("a");
  desk.finished("a.0.prefill");
  desk.enter("d2", "draining");
  desk.arrive("b");
  desk.enter("d2", "ready");
  expect(brief(desk.enter("d1", "draining"))).toEqual(["cancel b.0.prefill: decode_instance_gone"]);
  expect(brief(desk.cancelled("b.0.prefill"))).toEqual(["release d1 for b", "reserve d2 for b", "start b.1.prefill on p1"]);
  expect(brief(desk.finished("a.0.decode"))).toEqual(["release d1 for a", "end a: done stop"]);
});

test("a cancelled call ends when its leg is over, saying what was sent; its slot is released once (D3)", () => {
  const desk = pair();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  desk.firstToken("c.0.decode");
  expect(brief(desk.cancel("c"))).toEqual(["cancel c.0.decode: client_gone"]);
  expect(brief(desk.cancel("c"))).toEqual([]);
  const effects = desk.cancelled("c.0.decode", 9);
  expect(brief(effects)).toEqual(["release d1 for c", "end c: cancelled client_gone"]);
  expect(ofType(effects, "end_call")[0]?.outcome).toMatchObject({ emitted: 9 });
  expectQuiet(desk);
});

test("a queued call that is cancelled ends at once", () => {
  const desk = new Desk();
  desk.arrive("c");
  expect(brief(desk.cancel("c"))).toEqual(["end c: cancelled client_gone"]);
  expectQuiet(desk);
});

test("a cancel whose outcome never comes is taken as done after its bound", () => {
  const desk = pair();
  desk.arrive("c");
  desk.cancel("c");
  expect(brief(desk.at(micros(DEFAULT_LIMITS.cancel_bound - 1)).timer())).toEqual([]);
  expect(brief(desk.at(DEFAULT_LIMITS.cancel_bound).timer())).toEqual(["release d1 for c", "end c: cancelled client_gone"]);
  expectQuiet(desk);
});

test("queued past its deadline: shed. Running past it: cancelled and failed", () => {
  const desk = new Desk().up(makeInstance("b1", "both", { slots: 1 }));
  desk.arrive("runs", { deadline: second(10) });
  desk.accepted("runs.0.whole");
  desk.arrive("waits", { deadline: second(5) });
  expect(desk.scheduler.snapshot().wake_at).toBe(second(5));
  expect(brief(desk.at(second(5)).timer())).toEqual(["end waits: shed deadline_exceeded"]);
  expect(desk.scheduler.snapshot().wake_at).toBe(second(10));
  expect(brief(desk.at(second(10)).timer())).toEqual(["cancel runs.0.whole: deadline_exceeded"]);
  expect(brief(desk.cancelled("runs.0.whole"))).toEqual(["end runs: failed deadline_exceeded"]);
  expectQuiet(desk);
});

test("KV that nobody reports released is taken as gone when its lease is over", () => {
  const desk = pair();
  desk.arrive("c");
  desk.finished("c.0.prefill");
  desk.cancel("c");
  desk.cancelled("c.0.decode");
  expect(desk.scheduler.snapshot()).toMatchObject({ calls: 0, holding: 1 });
  desk.at(P1.kv_lease).timer();
  expectQuiet(desk);
});

test("a call that cannot be split goes whole: to `both`, and where none exists to decode", () => {
  const desk = pair();
  expect(brief(desk.arrive("c", { splittable: false }))).toEqual(["start c.0.whole on d1"]);
  const other = new Desk().up(P1, D1, makeInstance("b1", "both"));
  expect(brief(other.arrive("c", { splittable: false }))).toEqual(["start c.0.whole on b1"]);
  const plain = new Desk().up(makeInstance("x", "both", { capabilities: { ...CAPABILITIES, legs: "none" } }));
  expect(brief(plain.arrive("c"))).toEqual(["start c.0.whole on x"]);
});

test("with nothing ready a call is queued, not refused (D4), and goes when an instance is ready; loading gets no leg", () => {
  const desk = new Desk();
  expect(brief(desk.arrive("c"))).toEqual(["progress c: 1"]);
  const both = makeInstance("b1", "both");
  desk.send({ type: "group_launched", group_id: both.group_id, instances: [both] });
  expect(ofType(desk.all, "start_leg")).toEqual([]);
  expect(brief(desk.enter("b1", "ready"))).toEqual(["start c.0.whole on b1"]);
});

test("groups: launched to the target once adoption is over, never twice (I7), replaced when lost", () => {
  const desk = new Desk({ targets: [{ model: P1.model, role: "prefill", groups: 2 }] });
  expect(brief(desk.send({ type: "group_launched", group_id: P1.group_id, instances: [P1] }))).toEqual([]);
  const first = desk.timer();
  expect(brief(first)).toEqual([`launch ${P1.model} prefill`]);
  expect(brief(desk.at(second(6)).timer())).toEqual([]);
  const [launch] = ofType(first, "launch_group");
  const launched = { ...P2, group_id: launch!.group_id };
  desk.send({ type: "group_launched", group_id: launched.group_id, instances: [launched] });
  desk.enter("p2", "ready");
  expect(brief(desk.send({ type: "group_lost", group_id: launched.group_id, reason: "died" }))).toEqual([`launch ${P1.model} prefill`]);
});

test("failed launches back off, doubling to a bound, and success forgets them", () => {
  const desk = new Desk({ targets: [{ model: P1.model, role: "prefill", groups: 1 }], limits: { launch_backoff_max: second(4) } });
  const waits: number[] = [];
  let [launch] = ofType(desk.timer(), "launch_group");
  for (let n = 0; n < 5; n++) {
    const failed_at = desk.now;
    expect(brief(desk.send({ type: "launch_failed", effect_id: launch!.effect_id, reason: "no GPU" }))).toEqual([]);
    launch = undefined;
    while (launch === undefined) {
      desk.at(desk.scheduler.snapshot().wake_at!);
      [launch] = ofType(desk.timer(), "launch_group");
    }
    waits.push((desk.now - failed_at) / second(1));
  }
  expect(waits).toEqual([1, 2, 4, 4, 4]);
});

test("a launch without outcome is given up: its group is stopped, and ignored should it still appear", () => {
  const desk = new Desk({ targets: [{ model: P1.model, role: "prefill", groups: 1 }] });
  const [launch] = ofType(desk.timer(), "launch_group");
  expect(brief(desk.at(DEFAULT_LIMITS.launch_bound).timer())).toEqual([`stop ${launch!.group_id}`]);
  desk.send({ type: "group_launched", group_id: launch!.group_id, instances: [{ ...P1, group_id: launch!.group_id }] });
  expect(desk.scheduler.snapshot().instances).toEqual([]);
  desk.send({ type: "group_stopped", group_id: launch!.group_id });
  expect(desk.scheduler.snapshot().groups).toEqual([]);
});

test("a surplus group is drained, but not while it loads (I7)", () => {
  const desk = new Desk({ targets: [{ model: P1.model, role: "prefill", groups: 1 }] });
  for (const instance of [P1, P2]) desk.send({ type: "group_launched", group_id: instance.group_id, instances: [instance] });
  desk.enter("p1", "ready");
  expect(brief(desk.timer())).toEqual([]);
  expect(brief(desk.enter("p2", "ready"))).toEqual(["stop grp_p2 by drain"]);
  expect(desk.scheduler.snapshot().instances.map(({ state }) => state)).toEqual(["ready", "draining"]);
});

test("one wake_at at a time: only an earlier instant, or the next one after a timer, is worth an effect", () => {
  const desk = new Desk({ limits: { elasticity_period: second(3_600) } });
  desk.timer();
  expect(desk.arrive("a", { deadline: second(50) }).at(-1)).toEqual({ type: "wake_at", at: second(50) });
  expect(ofType(desk.arrive("b", { deadline: second(60) }), "wake_at")).toEqual([]);
  expect(desk.arrive("c", { deadline: second(40) }).at(-1)).toEqual({ type: "wake_at", at: second(40) });
  expect(desk.at(second(40)).timer().at(-1)).toEqual({ type: "wake_at", at: second(50) });
});

test("an engine's sample is shown, not believed", () => {
  const desk = pair();
  desk.send({ type: "instance_sampled", instance_id: P1.instance_id, running: 3, waiting: 2, kv_usage_ppm: 5 });
  const shown = desk.scheduler.snapshot().instances.find(({ instance_id }) => instance_id === P1.instance_id);
  expect(shown).toMatchObject({ legs: 0, sample: { running: 3, waiting: 2, kv_usage_ppm: 5 } });
});

test("the snapshot sums pools", () => {
  const desk = two_pairs();
  desk.arrive("c");
  const { pools } = desk.scheduler.snapshot();
  expect(pools).toMatchObject([
    { role: "decode", slots: 8, legs: 0, reserved: 1, kv_tokens: 150, states: { ready: 2 } },
    { role: "prefill", slots: 8, legs: 1, reserved: 0, kv_tokens: 101, states: { ready: 2 } },
  ]);
});

test("a limit of zero is refused at the start (I8)", () => {
  expect(() => createScheduler(baselinePolicies({ scope: "x", targets: [], limits: { failures_max: 0 } }))).toThrow(/failures_max/);
});
