/** What the runtime promises around the scheduler: who is told what, when, and which leg is never begun. */
import { afterEach, expect, test } from "vitest";
import { failure } from "../../schema/core/errors.ts";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import type { Effect } from "../policy/effects.ts";
import type { SchedulerEvent } from "../policy/events.ts";
import type { CallOutput } from "./output.ts";
import { answered, MODEL, openRuntime, prefilled, request, said, startLeg } from "./runtime.test-support.ts";
import type { Runtime } from "./runtime.ts";

let open: Runtime | null = null;
afterEach(() => open?.close());

async function opened(answer: (event: SchedulerEvent) => readonly Effect[]) {
  const made = await openRuntime(answer);
  open = made.runtime;
  return made;
}
function submitted(runtime: Runtime, asked = request("c")): CallOutput {
  const submission = runtime.submit(asked);
  if (submission.type === "refused") throw new Error(submission.failure.code);
  return submission.call.output;
}
const macrotask = () => new Promise((resolve) => setImmediate(resolve));

test("nothing is told of a call before its record is on disk, though its leg runs and even ends (D4)", async () => {
  const { runtime, engines, meter } = await opened((event) => {
    if (event.type === "call_arrived") return [startLeg("c", "whole")];
    if (event.type !== "leg_finished") return [];
    const outcome = { type: "done", finish_reason: "stop", usage: event.usage } as const;
    return [{ type: "end_call", call_id: request("c").call_id, outcome, retry_after_ms: null }];
  });
  const output = submitted(runtime);
  expect(meter.records).toContainEqual(expect.objectContaining({ type: "call_accepted", call: "c" }));
  const [leg] = engines.d1.started;
  leg?.sink.accepted();
  leg?.sink.delta(said("Water"));
  leg?.sink.finished(answered);
  await macrotask();
  expect(output.ended).toBe(true);
  expect(output.accepted).toBe(false);
  expect(output.take(0)).toBeUndefined();
  meter.synced();
  await macrotask();
  expect(output.accepted).toBe(true);
  expect(output.take(0)).toMatchObject({ type: "token", delta: { content: "Water" } });
  expect(output.take(1)).toMatchObject({ type: "done" });
});

test("a decode leg is not begun once the lease on the KV may be over: it would read another prompt's (I3)", async () => {
  const accept_by = micros(25_000_000);
  const { runtime, engines, events, clock } = await opened((event) => {
    if (event.type === "call_arrived") return [startLeg("c", "prefill")];
    return event.type === "leg_finished" ? [startLeg("c", "decode", { accept_by })] : [];
  });
  submitted(runtime);
  clock.set(accept_by);
  engines.p1.started[0]?.sink.finished(prefilled);
  expect(engines.d1.started).toEqual([]);
  expect(events.at(-1)).toMatchObject({ type: "leg_failed", leg_id: "c.0.decode", error: { cause: "kv_lost" }, tokens: 0 });
});

test("before that it is, with the hand-over and the time that is left", async () => {
  const { runtime, engines, clock } = await opened((event) => {
    if (event.type === "call_arrived") return [startLeg("c", "prefill")];
    return event.type === "leg_finished" ? [startLeg("c", "decode")] : [];
  });
  submitted(runtime);
  clock.set(micros(24_000_000));
  engines.p1.started[0]?.sink.finished(prefilled);
  expect(engines.d1.started[0]?.request).toMatchObject({ handover: prefilled.handover, accept_timeout_ms: 1_000, cache_salt: "ten_a" });
});

test("a decode leg whose KV is not held any more is not begun (I3)", async () => {
  const { runtime, engines, events } = await opened((event) => (event.type === "call_arrived" ? [startLeg("c", "decode")] : []));
  submitted(runtime);
  expect(engines.d1.started).toEqual([]);
  expect(events.at(-1)).toMatchObject({ type: "leg_failed", error: { cause: "kv_lost" } });
});

test("a lease that ran out unnoticed: policy is not asked, no leg begins, the next call is refused (I13)", async () => {
  let held = true;
  const { runtime, engines, events, meter } = await openRuntime(
    (event) =>
      event.type === "leg_finished" ? [startLeg("c", "decode")] : event.type === "call_arrived" ? [startLeg("c", "prefill")] : [],
    () => held,
  );
  open = runtime;
  submitted(runtime);
  const asked = events.length;
  held = false;
  engines.p1.started[0]?.sink.finished(prefilled);
  runtime.cancel(request("c").call_id, "by the client");
  expect(runtime.submit(request("d"))).toMatchObject({ type: "refused", failure: { code: "gateway_unavailable" } });
  expect([events.length, engines.d1.started, engines.p1.started[0]?.cancelled]).toEqual([asked, [], false]);
  expect(meter.records.filter((record) => record.type === "call_accepted")).toHaveLength(1);
});

test.each(["cancelled", "failed"] as const)("a whole leg that is %s is booked with the prompt that its engine told of", async (type) => {
  const { runtime, engines, meter } = await opened((event) => {
    if (event.type === "call_arrived") return [startLeg("c", "whole")];
    const { call_id } = request("c");
    if (event.type === "call_cancelled")
      return [{ type: "cancel_leg", effect_id: "fx", leg_id: startLeg("c", "whole").leg_id, reason: event.reason }];
    if (event.type === "leg_cancelled")
      return [{ type: "end_call", call_id, outcome: { type: "cancelled", reason: "by the client", emitted: 1 }, retry_after_ms: null }];
    if (event.type !== "leg_failed") return [];
    return [{ type: "end_call", call_id, outcome: { type: "failed", failure: event.error.failure, emitted: 1 }, retry_after_ms: null }];
  });
  submitted(runtime);
  const [leg] = engines.d1.started;
  leg?.sink.accepted();
  leg?.sink.prompt({ prompt_tokens: 10, cached_tokens: 4 });
  leg?.sink.delta(said("Water"));
  if (type === "cancelled") {
    runtime.cancel(request("c").call_id, "by the client");
    leg?.sink.cancelled();
  } else leg?.sink.failed({ cause: "stream_cut", failure: failure("engine_failed", "the stream ended early") });
  expect(meter.records.at(-1)).toMatchObject({ type: "call_ended", outcome: type, tokens: { prompt: 10, cached: 4, completion: 1 } });
});

test("a gateway that stops launches nothing: policy hears so, the provider is not asked", async () => {
  const log: string[] = [];
  const { runtime, events } = await openRuntime(
    (event) =>
      event.type === "group_lost"
        ? [{ type: "launch_group", effect_id: "fx", group_id: asId<"group">("grp_new"), model: MODEL, role: "prefill" }]
        : [],
    () => true,
    (line) => void log.push(line),
  );
  open = runtime;
  const lose = (id: string) => runtime.onProviderEvent({ type: "group_lost", group_id: asId<"group">(id), reason: "gone" });
  lose("grp_p1");
  await macrotask();
  expect(log.filter((line) => line === "launch refused")).toHaveLength(1);
  runtime.drain();
  lose("grp_d1");
  await macrotask();
  expect(events.at(-1)).toMatchObject({ type: "launch_failed", reason: "the gateway is stopping" });
  expect(log.filter((line) => line === "launch refused")).toHaveLength(1);
});

test("the same id attaches with the same body; with another it is refused, whoever reads it how", async () => {
  const { runtime } = await opened(() => []);
  submitted(runtime);
  const again = request("c");
  expect(runtime.submit({ ...again, body: { ...again.body, stream: true } })).toMatchObject({ type: "attached" });
  expect(runtime.submit(request("c", "Goodbye"))).toMatchObject({ type: "refused", failure: { code: "idempotency_mismatch" } });
  expect(runtime.submit({ ...again, tags: { ...again.tags, tenant: "ten_b" } })).toMatchObject({ failure: { code: "invalid_request" } });
});
