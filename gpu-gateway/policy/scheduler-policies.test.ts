/** What the scheduler tells its policies, and what becomes of what they say: service, predicted prefills, fetched prefixes, refusals. */
import { expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { type Micros, micros, microsFromMs } from "../../schema/core/time.ts";
import { type CatalogueOptions, choosePolicies } from "./catalogue.ts";
import type { InstanceView, TimeEstimates } from "./policies.ts";
import { brief, Desk, makeInstance, ofType, second } from "./scheduler/testing.ts";
import type { PolicyNames } from "./catalogue.ts";

const linear: TimeEstimates = {
  prefill_time: (_instance, uncached) => (uncached * 1_000) as Micros,
  decode_step_time: () => micros(20_000),
  transfer_time: () => micros(1_000),
};
function deskOf(names: Partial<PolicyNames>, more: Partial<CatalogueOptions> = {}): Desk {
  const choice = choosePolicies(names, { scope: "cell_a/1", targets: [], estimates: linear, ...more });
  if (choice.type === "faults") throw new Error(choice.faults.join("; "));
  return new Desk({}, choice.config);
}
const tenant = (name: string) => asId<"tenant">(name);

test("vtc through the scheduler: a flood of one tenant does not keep the other waiting", () => {
  const desk = deskOf({ ordering: "vtc" }).up(makeInstance("b1", "both", { slots: 1 }));
  for (let n = 0; n < 4; n++) desk.at(micros(n)).arrive(`a${n}`, { tenant: tenant("ten_a") });
  desk.at(micros(9)).arrive("b0", { tenant: tenant("ten_b") });
  const order: string[] = ["a0"];
  for (let n = 0; n < 4; n++) {
    desk.at(second(n + 1)).firstToken(`${order.at(-1)}.0.whole`);
    for (const { call_id } of ofType(desk.finished(`${order.at(-1)}.0.whole`, 20), "start_leg")) order.push(String(call_id));
  }
  expect(order).toEqual(["a0", "b0", "a1", "a2", "a3"]);
});

test("vtc through the scheduler: an attempt that no engine had costs its tenant nothing", () => {
  const desk = deskOf({ ordering: "vtc" });
  for (const [id, who] of [
    ["b0", "ten_b"],
    ["b1", "ten_b"],
    ["z0", "ten_z"],
    ["z1", "ten_z"],
  ] as const)
    desk.arrive(id, { tenant: tenant(who) });
  desk.up(makeInstance("i1", "both", { slots: 1 }));
  // b0 turns out to have been half cached: b has been served less than an attempt at z0 would count.
  expect(brief(desk.at(second(1)).finished("b0.0.whole", 1, 50))).toContain("start z0.0.whole on i1");
  desk.failed("z0.0.whole", "connect");
  expect(ofType(desk.at(second(4)).timer(), "start_leg").map(({ call_id }) => String(call_id))).toEqual(["z0"]);
});

test("vtc through the scheduler: tokens count as they are reported, before their call has ended", () => {
  const desk = deskOf({ ordering: "vtc" });
  for (const id of ["a0", "a1", "b0", "b1"]) desk.arrive(id, { tenant: tenant(`ten_${id.charAt(0)}`) });
  desk.up(makeInstance("i1", "both", { slots: 2 }));
  desk.send({ type: "leg_progress", leg_id: asId<"leg">("a0.0.whole"), tokens: 50 });
  expect(brief(desk.finished("b0.0.whole"))).toContain("start b1.0.whole on i1");
});

test("a client hears its place among tenants who take turns", () => {
  const desk = deskOf({ ordering: "vtc" });
  for (let n = 0; n < 6; n++) desk.at(micros(n)).arrive(`a${n}`, { tenant: tenant("ten_a") });
  expect(brief(desk.at(micros(9)).arrive("b0", { tenant: tenant("ten_b") }))).toEqual(["progress b0: 2"]);
});

test("prefill_due: prompts in flight one after the other, from now on when one is done, and gone with the last", () => {
  const seen: (readonly InstanceView[])[] = [];
  const choice = choosePolicies({ routing: "conductor" }, { scope: "c/1", targets: [], estimates: linear });
  if (choice.type === "faults") throw new Error("faults");
  const { routing } = choice.config;
  const watching = {
    ...choice.config,
    routing: {
      route(...asked: Parameters<typeof routing.route>) {
        seen.push(asked[1].map((view) => ({ ...view })));
        return routing.route(...asked);
      },
    },
  };
  const desk = new Desk({}, watching).up(makeInstance("p1", "prefill", { slots: 9 }), makeInstance("d1", "decode", { slots: 9 }));
  const due = (id: string): number | undefined => {
    desk.arrive(id, { program: asId<"program">(id) });
    return seen.at(-1)?.find((view) => view.instance.role === "prefill")?.prefill_due;
  };
  desk.at(micros(0));
  expect([due("a"), due("b"), due("c")]).toEqual([0, 100_000, 200_000]);
  // a is done late, b and c remain.
  desk.at(micros(150_000)).finished("a.0.prefill");
  expect(due("d")).toBe(350_000);
  desk.at(micros(160_000)).cancelled("b.0.prefill");
  expect((due("e") ?? 0) - 160_000).toBeLessThanOrEqual(300_000);
});

test("a routing that fetches a prefix says so in the leg, and the leg counts what it fetches as cached", () => {
  const desk = deskOf({ routing: "conductor", cache: "prefix-index" }, { parameters: { at_once: true } }).up(
    makeInstance("p1", "prefill", { slots: 9 }),
    makeInstance("p2", "prefill", { slots: 9 }),
    makeInstance("d1", "decode", { slots: 9 }),
  );
  const prefix = { block_tokens: 16, blocks: Array.from({ length: 60 }, (_, n) => n + 1) };
  const starts = ["a", "b", "c"].flatMap((id) => ofType(desk.at(micros(0)).arrive(id, { prompt_tokens: 1_000, prefix }), "start_leg"));
  expect(starts.map(({ instance_id, fetch_prefix_from }) => [instance_id, fetch_prefix_from])).toEqual([
    ["p1", undefined],
    ["p2", { instance_id: "p1", tokens: 960 }],
    ["p2", undefined],
  ]);
  expect(desk.scheduler.snapshot().instances.map(({ prefill_tokens }) => prefill_tokens)).toEqual([0, 1_000, 80]);
});

test("early rejection: refused at the door once the queue is too long for the objective", () => {
  const desk = deskOf({ admission: "early-rejection", routing: "local-aware" }, { parameters: { at_once: true, ttft_ms_max: 250 } }).up(
    makeInstance("p1", "prefill", { slots: 9 }),
    makeInstance("d1", "decode", { slots: 9 }),
  );
  const answers = ["a", "b", "c"].map((id) => desk.at(micros(0)).arrive(id, { program: asId<"program">(id) }));
  expect(answers.map((effects) => ofType(effects, "reject").map(({ failure }) => failure.code))).toEqual([[], [], ["slo_unattainable"]]);
  // The first is being computed: 150 ms of it are over.
  expect(ofType(desk.at(microsFromMs(150)).arrive("d"), "reject")).toEqual([]);
});
