/**
 * I12 against a model world: slots, tenants who send what they like, estimates that are wrong, attempts that come to nothing. What two
 * tenants are served while both have calls waiting differs by no more than the bound that service-counters.ts derives. Service is
 * counted here, from what the world did, not read from the counters.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { asId, type CallId } from "../../../schema/core/ids.ts";
import { micros } from "../../../schema/core/time.ts";
import type { CallQueue, Ordering } from "../policies.ts";
import { makeCall, MODEL } from "../scheduler/testing.ts";
import type { Call } from "../vocabulary.ts";
import { fcfs } from "./fcfs.ts";
import { vtc } from "./vtc.ts";

const WEIGHTS = { prompt: 4, cached: 1, output: 8 };
const PROMPT_MAX = 60;
const OUTPUT_MAX = 20;
const CASES = 1_500;

type Item = { readonly call: Call };
type Running = { readonly call: Call; charged: number; output: number; readonly output_end: number; readonly actual: number };
type Step = { readonly action: number; readonly tenant: number; readonly a: number; readonly b: number };
type Plan = { readonly tenants: number; readonly slots: number; readonly exact: boolean; readonly steps: readonly Step[] };

/** Returns the greatest difference seen between two tenants over a stretch in which both had calls waiting. */
function worstDifference(plan: Plan, ordering: Ordering): number {
  const names = Array.from({ length: plan.tenants }, (_, n) => asId<"tenant">(`ten_${n}`));
  const service = names.map(() => 0);
  const waiting = names.map(() => 0);
  const running = new Map<CallId, Running>();
  /** For each pair: least and greatest difference of service in the present stretch. */
  const stretches = new Map<string, { least: number; greatest: number }>();
  let queue: CallQueue<Item> | null = null;
  let made = 0;
  let worst = 0;

  const tenantOf = (call: Call): number => names.indexOf(call.tenant);
  const give = (call: Call, weight: number): void => {
    const tenant = tenantOf(call);
    service[tenant] = (service[tenant] ?? 0) + weight;
  };
  const join = (call: Call): void => {
    queue ??= ordering.queue<Item>(MODEL);
    queue.add({ call });
    const tenant = tenantOf(call);
    waiting[tenant] = (waiting[tenant] ?? 0) + 1;
  };
  const serve = (): void => {
    while (running.size < plan.slots) {
      const first = queue?.first();
      if (queue === null || first === undefined) return;
      queue.remove(first);
      if (queue.size === 0) queue = null;
      const { call } = first;
      const tenant = tenantOf(call);
      waiting[tenant] = (waiting[tenant] ?? 0) - 1;
      ordering.served(call, { type: "placed", hit_tokens: 0 });
      const charged = call.prompt_tokens * WEIGHTS.prompt;
      give(call, charged);
      const actual = plan.exact ? call.prompt_tokens : 1 + ((call.prompt_tokens * 7) % PROMPT_MAX);
      running.set(call.call_id, { call, charged, output: 0, output_end: call.max_tokens, actual });
    }
  };
  const look = (): void => {
    for (let i = 0; i < names.length; i++)
      for (let j = i + 1; j < names.length; j++) {
        const key = `${i} ${j}`;
        if ((waiting[i] ?? 0) === 0 || (waiting[j] ?? 0) === 0) {
          stretches.delete(key);
          continue;
        }
        const difference = (service[i] ?? 0) - (service[j] ?? 0);
        const stretch = stretches.get(key) ?? { least: difference, greatest: difference };
        stretch.least = Math.min(stretch.least, difference);
        stretch.greatest = Math.max(stretch.greatest, difference);
        stretches.set(key, stretch);
        worst = Math.max(worst, stretch.greatest - stretch.least);
      }
  };
  const finish = (one: Running): void => {
    running.delete(one.call.call_id);
    const cached_tokens = plan.exact ? 0 : one.actual >> 1;
    const usage = { prompt_tokens: one.actual, cached_tokens, completion_tokens: one.output };
    ordering.finished(one.call, { usage, model_time: micros(0) });
    give(one.call, (one.actual - cached_tokens) * WEIGHTS.prompt + cached_tokens * WEIGHTS.cached - one.charged);
  };

  for (const { action, tenant, a, b } of plan.steps) {
    const one = [...running.values()][a % Math.max(1, running.size)];
    if (action < 4) {
      // Several at once, so that tenants are backlogged.
      for (let n = 0; n <= b % 3; n++) {
        made += 1;
        join(
          makeCall(`c${String(made).padStart(5, "0")}`, {
            tenant: names[tenant % names.length] ?? asId<"tenant">("none"),
            arrived: made,
            prompt_tokens: 1 + ((a + n) % PROMPT_MAX),
            max_tokens: 1 + ((b + n) % OUTPUT_MAX),
          }),
        );
      }
    } else if (one !== undefined) {
      if (action === 4 && !plan.exact && one.output === 0) {
        running.delete(one.call.call_id);
        give(one.call, -one.charged);
        ordering.served(one.call, { type: "returned" });
        join(one.call);
      } else {
        const more = Math.min(one.output_end - one.output, 1 + (b % 8));
        one.output += more;
        give(one.call, more * WEIGHTS.output);
        ordering.served(one.call, { type: "output", tokens: one.output });
        if (one.output === one.output_end) finish(one);
      }
    }
    look();
    serve();
    look();
  }
  return worst;
}

const boundOf = ({ slots, exact }: Plan): number =>
  2 *
  (exact
    ? WEIGHTS.prompt * PROMPT_MAX + WEIGHTS.output * slots * OUTPUT_MAX
    : slots * (2 * WEIGHTS.prompt * PROMPT_MAX + WEIGHTS.output * OUTPUT_MAX));

const plans = fc.record<Plan>({
  tenants: fc.integer({ min: 2, max: 5 }),
  slots: fc.integer({ min: 1, max: 4 }),
  exact: fc.boolean(),
  steps: fc.array(fc.record({ action: fc.nat(9), tenant: fc.nat(9), a: fc.nat(999), b: fc.nat(999) }), { maxLength: 250, size: "max" }),
});
const fair = () => vtc({ weights: WEIGHTS, inner: fcfs, idle_tenants_max: 2, models_max: 1 });

let differences = 0;
test("two backlogged tenants are served alike, within the bound, whatever arrives (I12)", () => {
  fc.assert(
    fc.property(plans, (plan) => {
      const worst = worstDifference(plan, fair());
      if (worst > boundOf(plan)) throw new Error(`${worst} is more than ${boundOf(plan)}`);
      if (worst > 0) differences += 1;
    }),
    { numRuns: CASES },
  );
  expect(differences).toBeGreaterThan(CASES / 2);
});

/** A flood from one tenant, then one from another: what no order by arrival can share. */
const FLOOD: Plan = {
  tenants: 2,
  slots: 2,
  exact: true,
  steps: [
    ...Array.from({ length: 60 }, () => ({ action: 0, tenant: 0, a: 59, b: 19 })),
    ...Array.from({ length: 60 }, () => ({ action: 0, tenant: 1, a: 59, b: 19 })),
    ...Array.from({ length: 400 }, (_, n) => ({ action: 9, tenant: 0, a: n, b: 7 })),
  ],
};

test("the bound tells fair from unfair: first come, first served breaks it", () => {
  expect(worstDifference(FLOOD, fair())).toBeLessThanOrEqual(boundOf(FLOOD));
  expect(worstDifference(FLOOD, fcfs)).toBeGreaterThan(boundOf(FLOOD));
});
