/** A called function's model calls: read from the root each time anew, told in the function's own log once. */
import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import type { GatewayCall, GatewayFrame } from "../gateway-client-call.ts";
import { bindings } from "../testing.ts";
import type { NumberedFrame } from "./call-ledger.ts";
import type { ExecutionFact, ModelLink } from "./execution.ts";
import { RelayedCalls } from "./relayed-calls.ts";
import { createExecutionTables } from "./tables.ts";

const PROGRAM = "run_00000000000000000000000000000002";
const call = "call_00000000000000000000000000000002";
const request = { call, from: 0, kind: "chat", context: { step: "call#1/ai#1" }, body: {} } as unknown as GatewayCall;
const token = (n: number): NumberedFrame => ({ type: "token", call, n, choice: 0, delta: { content: `w${n}` }, tokens: 1 });
const usage = { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 };
const all: NumberedFrame[] = [token(1), token(2), { type: "done", call, n: 3, finish_reason: "stop", usage, legs: [] }];

type Life = { calls: RelayedCalls; facts: string[]; asked: GatewayCall[]; cancelled: string[]; over: Promise<void> };
function live(name: string, said: readonly GatewayFrame[], use: (life: Life) => Promise<void>): Promise<void> {
  return runInDurableObject(bindings.MEMORY.getByName(name), async (_object, { storage }) => {
    createExecutionTables(storage.sql);
    const facts: string[] = [];
    const asked: GatewayCall[] = [];
    const cancelled: string[] = [];
    const over = Promise.withResolvers<void>();
    const link: ModelLink = {
      async call(of, onFrame) {
        asked.push(of);
        for (const frame of said) await onFrame(frame);
        over.resolve();
      },
      cancel: (_call, reason) => void cancelled.push(reason),
    };
    const append = (more: readonly ExecutionFact[]) =>
      void facts.push(...more.map((fact) => (fact.type === "step" ? fact.status : fact.type)));
    const calls = new RelayedCalls({ storage, program: PROGRAM, link, sink: { append } });
    await use({ calls, facts, asked, cancelled, over: over.promise });
    expect(storage.sql.exec("SELECT 1 FROM execution_frames").toArray()).toEqual([]);
  });
}
const read = async (calls: RelayedCalls) => {
  const frames: NumberedFrame[] = [];
  for await (const frame of calls.frames(call)) frames.push(frame);
  return frames;
};

test("another life reads from the first frame on, and tells only what the one before did not", async () => {
  await live("relayed-lives", [token(1)], async ({ calls, facts, over }) => {
    calls.open(request);
    for await (const frame of calls.frames(call)) if (frame.n === 1) break;
    await over;
    expect(facts).toEqual(["started"]);
  });
  for (const told of [["usage", "done"], []]) {
    await live("relayed-lives", all, async ({ calls, facts, asked }) => {
      calls.open({ ...request, from: 2 });
      calls.open(request);
      expect(await read(calls)).toEqual(all);
      expect(asked.map((of) => of.from)).toEqual([0]);
      expect(facts).toEqual(told);
    });
  }
});

test("a reader that leaves holds nothing up: the call's end is told", async () => {
  await live("relayed-left", all, async ({ calls, facts, over }) => {
    calls.open(request);
    for await (const _ of calls.frames(call)) break;
    await over;
    expect(facts).toEqual(["started", "usage", "done"]);
  });
});

test("closed: what nobody reads any more goes on to its end, and what comes later is refused", async () => {
  await live("relayed-closed", all, async ({ calls, facts, cancelled, over }) => {
    calls.open(request);
    calls.close("the run is over");
    await over;
    expect([cancelled, facts]).toEqual([["the run is over"], ["started", "usage", "done"]]);
    const other = { ...request, call: "call_00000000000000000000000000000003" };
    calls.open(other);
    const frames: NumberedFrame[] = [];
    for await (const frame of calls.frames(other.call)) frames.push(frame);
    expect(frames).toMatchObject([{ type: "refused", n: 1, error: { code: "cancelled" }, emitted: 0 }]);
    expect(facts.slice(3)).toEqual(["failed"]);
  });
});
