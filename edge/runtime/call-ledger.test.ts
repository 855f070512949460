/** What is stored of a model call is stored once, whatever the link says again (I4). */
import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import type { GatewayCall } from "../gateway-client-call.ts";
import { bindings } from "../testing.ts";
import { CallLedger, type NumberedFrame } from "./call-ledger.ts";
import type { ExecutionFact, ModelLink } from "./execution.ts";
import { createExecutionTables } from "./tables.ts";

const PROGRAM = "run_00000000000000000000000000000001";
const request: GatewayCall = {
  call: "call_00000000000000000000000000000001",
  from: 0,
  kind: "chat",
  context: { program: PROGRAM, function: "fn_1", version: "ver_1", step: "ai#1", deadline_ms: 1_000 },
  body: { model: "m", messages: [{ role: "user", content: "hi" }] },
} as unknown as GatewayCall;
const { call } = request;
const token = (n: number, content: string): NumberedFrame => ({ type: "token", call, n, choice: 0, delta: { content }, tokens: 1 });
const done = (n: number): NumberedFrame => ({
  type: "done",
  call,
  n,
  finish_reason: "stop",
  usage: { prompt_tokens: 1, completion_tokens: 2, total_tokens: 3 },
  legs: [],
});

/** A ledger in an object's storage, whose link says these frames. */
function withLedger<T>(name: string, said: readonly NumberedFrame[], use: (ledger: CallLedger, facts: ExecutionFact[]) => Promise<T>) {
  return runInDurableObject(bindings.MEMORY.getByName(name), async (_object, { storage }) => {
    createExecutionTables(storage.sql);
    const facts: ExecutionFact[] = [];
    const link: ModelLink = {
      async call(_request, onFrame) {
        for (const frame of said) await onFrame(frame);
      },
      cancel() {},
    };
    return use(new CallLedger({ storage, program: PROGRAM, link, sink: { append: (more) => facts.push(...more) } }), facts);
  });
}

const read = async (ledger: CallLedger, after = 0) => {
  const frames: NumberedFrame[] = [];
  for await (const frame of ledger.frames(call, after)) frames.push(frame);
  return frames;
};

test("a frame that comes again, or late, is stored and told once", async () => {
  const one = token(1, "a");
  const two = token(2, "b");
  await withLedger(
    "ledger-again",
    [one, one, two, one, token(2, "other"), done(3), done(3), token(4, "after the end")],
    async (ledger, facts) => {
      ledger.open(request);
      expect(await read(ledger)).toEqual([one, two, done(3)]);
      expect(facts.filter((fact) => fact.type === "delta").map((fact) => fact.text)).toEqual(["a", "b"]);
      expect(facts.filter((fact) => fact.type === "usage")).toHaveLength(1);
      expect(facts.filter((fact) => fact.type === "step").map((fact) => fact.status)).toEqual(["started", "done"]);
    },
  );
});

test("a ledger of another life goes on after the last frame that is stored, and tells nothing again", async () => {
  const hears = (said: readonly NumberedFrame[]) =>
    withLedger("ledger-lives", said, async (ledger, facts) => {
      ledger.open(request);
      await Promise.resolve();
      return { ledger, facts };
    });
  await hears([token(1, "a"), token(2, "b")]);
  const { facts } = await hears([token(1, "a"), token(2, "b"), token(3, "c"), done(4)]);
  expect(facts.map((fact) => (fact.type === "delta" ? fact.text : fact.type))).toEqual(["c", "usage", "step"]);
  await withLedger("ledger-lives", [], async (ledger) => {
    expect((await read(ledger, 2)).map((frame) => frame.n)).toEqual([3, 4]);
    expect(await read(ledger, 4)).toEqual([]);
  });
});
