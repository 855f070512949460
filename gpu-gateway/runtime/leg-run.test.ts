/** A leg, told by its engine what happens: what the scheduler, the journal and the client hear of it. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { failure } from "../../schema/core/errors.ts";
import { micros } from "../../schema/core/time.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { LegDelta, LegRequest } from "../ports/engine.ts";
import { Intake } from "./intake.ts";
import { LegRun } from "./leg-run.ts";
import { EMPTY_DELTAS_WITHHELD_MAX } from "./limits.ts";
import type { MeterInput } from "./meter.ts";
import { FakeEngine, prefilled, request, role, said, startLeg } from "./runtime.test-support.ts";

const LEASE_MS = 30_000;
beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A prefill leg and, once it holds KV, a decode leg that takes it. */
function desk() {
  const events: SchedulerEvent[] = [];
  const records: MeterInput[] = [];
  const delivered: LegDelta[] = [];
  const host = {
    record: (entry: MeterInput) => void records.push(entry),
    dispatch: (event: SchedulerEvent) => void events.push(event),
    deliver: (_: LegRun, delta: LegDelta) => void delivered.push(delta),
    legFailed: () => undefined,
    over: () => undefined,
  };
  const entry = new Intake({ cacheSalt: (tenant) => tenant, max_tokens_default: 16 }).entry(request("c"), micros(0), null);
  const engine = new FakeEngine();
  const run = (part: "prefill" | "decode", source: LegRun | null): LegRun => {
    const leg = new LegRun(host, startLeg("c", part), entry, source, micros(LEASE_MS * 1_000));
    leg.start(engine, {} as LegRequest);
    return leg;
  };
  const prefill = run("prefill", null);
  return { events, records, delivered, prefill, decode: () => run("decode", prefill) };
}
const typesOf = (said_of: readonly { readonly type: string }[]): string[] => said_of.map(({ type }) => type);

test("the piece that only says the role is no beginning: the leg may still lose the KV, and the call be tried again (D4)", () => {
  const { events, delivered, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  leg.accepted();
  leg.delta(role);
  expect(delivered).toEqual([]);
  expect(typesOf(events)).not.toContain("leg_first_token");
  leg.failed({ cause: "kv_lost", failure: failure("engine_failed", "10.0.0.1 said no") });
  expect(events.at(-1)).toMatchObject({ type: "leg_failed", error: { cause: "kv_lost" }, tokens: 0 });
});

test("with the first token what was kept back is sent before it, once", () => {
  const { events, delivered, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  leg.accepted();
  leg.delta(role);
  leg.delta(said("Water"));
  leg.delta(said(" falls"));
  expect(delivered).toEqual([role, said("Water"), said(" falls")]);
  expect(typesOf(events).filter((type) => type === "leg_first_token")).toHaveLength(1);
  expect(leg.tokens).toBe(2);
});

test("what is kept back is bounded (I8)", () => {
  const { delivered, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  for (let n = 0; n <= EMPTY_DELTAS_WITHHELD_MAX; n++) leg.delta(role);
  expect(delivered).toHaveLength(EMPTY_DELTAS_WITHHELD_MAX + 1);
});

test("a decode leg cancelled before it was accepted leaves the KV at prefill: held, in the books, until the lease is over", () => {
  const { events, records, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  leg.cancel();
  leg.cancelled();
  expect(prefill.handover).not.toBeNull();
  expect(records.filter(({ type }) => type === "leg_left")).toEqual([{ type: "leg_left", leg: "c.0.decode" }]);
  vi.advanceTimersByTime(LEASE_MS - 1);
  expect(typesOf(events)).not.toContain("kv_released");
  vi.advanceTimersByTime(1);
  expect(events.at(-1)).toEqual({ type: "kv_released", leg_id: "c.0.prefill" });
  expect(records.at(-1)).toEqual({ type: "leg_left", leg: "c.0.prefill" });
});

test("cancelled after it was accepted, decode has told prefill to free it", () => {
  const { events, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  leg.accepted();
  leg.cancel();
  leg.cancelled();
  expect(typesOf(events).slice(-2)).toEqual(["kv_released", "leg_cancelled"]);
});

test("a prefill that had finished when it was cancelled holds its KV until the lease is over", () => {
  const { events, records, prefill } = desk();
  prefill.cancel();
  prefill.finished(prefilled);
  expect(typesOf(records)).toEqual(["leg_joined", "leg_holding"]);
  vi.advanceTimersByTime(LEASE_MS);
  expect(typesOf(events)).toEqual(["leg_finished", "kv_released"]);
  expect(typesOf(records).at(-1)).toBe("leg_left");
});

test("while an accepted decode leg has not pulled, no lease of ours ends the hold: the engines renew it", () => {
  const { events, prefill, decode } = desk();
  prefill.finished(prefilled);
  const leg = decode();
  leg.accepted();
  vi.advanceTimersByTime(2 * LEASE_MS);
  expect(typesOf(events)).not.toContain("kv_released");
  leg.delta(said("Water"));
  expect(typesOf(events).slice(-2)).toEqual(["kv_released", "leg_first_token"]);
});
