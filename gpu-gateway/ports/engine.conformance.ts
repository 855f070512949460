/**
 * The one suite that every engine adapter passes, against a real peer process. What an engine cannot do is skipped by the name
 * of the capability; what a rig cannot do (inject faults, look inside) by the name of that.
 */
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TestContext } from "vitest";
import type { ChatRequest } from "../../schema/core/wire/chat.ts";
import type { LegFailure, LegRole } from "../policy/vocabulary.ts";
import type { Engine, EngineProbe, Handover, LegDelta, LegRequest, LegSink, RunningLeg } from "./engine.ts";
import { asId } from "../../schema/core/ids.ts";

export type Side = "prefill" | "decode";
/** What a rig with a look inside its engines tells. */
export type SideStats = { readonly running: number; readonly waiting: number; readonly held: number; readonly kv_blocks_used: number };
export type SeenRequest = { readonly request_id: string | null; readonly leg: string; readonly fields: readonly string[] };

export type EngineRig = {
  readonly model: string;
  /** Serves decode legs and whole calls. */
  readonly decode: Engine;
  /** Null where one instance is all there is. */
  readonly prefill: Engine | null;
  /** Arms a fault of the simulated instance's list. */
  readonly fault?: (side: Side, fault: Readonly<Record<string, unknown>>) => Promise<void>;
  readonly stats?: (side: Side) => Promise<SideStats>;
  /** The last requests that the engine saw. */
  readonly seen?: (side: Side) => Promise<readonly SeenRequest[]>;
  /** Kills a side and brings a fresh one up in its place, with an adapter of its own. */
  readonly kill?: (side: Side) => Promise<void>;
  close(): Promise<void>;
};

type Finished = Parameters<LegSink["finished"]>[0];
type End =
  | { readonly type: "finished"; readonly end: Finished }
  | { readonly type: "failed"; readonly error: LegFailure }
  | { readonly type: "cancelled" };

/** A sink that remembers, and checks the order in which it is called. */
class Recorder implements LegSink {
  readonly deltas: LegDelta[] = [];
  readonly prompts: { readonly prompt_tokens: number; readonly deltas_before: number }[] = [];
  accepted_count = 0;
  readonly ended: Promise<End>;
  readonly violations: string[] = [];
  onDelta: (count: number) => void = () => {};
  #end: End | null = null;
  #resolve: (end: End) => void = () => {};

  constructor() {
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
  }
  accepted(): void {
    this.accepted_count++;
    if (this.#end !== null || this.deltas.length > 0) this.violations.push("accepted out of order");
  }
  prompt({ prompt_tokens }: { readonly prompt_tokens: number }): void {
    if (this.#end !== null || this.accepted_count !== 1 || this.prompts.length > 0) this.violations.push("prompt out of order");
    this.prompts.push({ prompt_tokens, deltas_before: this.deltas.length });
  }
  delta(delta: LegDelta): void {
    if (this.#end !== null) this.violations.push("delta after the end");
    if (this.accepted_count !== 1) this.violations.push("delta before accepted");
    this.deltas.push(delta);
    this.onDelta(this.deltas.length);
  }
  finished(end: Finished): void {
    this.#settle({ type: "finished", end });
  }
  failed(error: LegFailure): void {
    this.#settle({ type: "failed", error });
  }
  cancelled(): void {
    this.#settle({ type: "cancelled" });
  }
  get text(): string {
    const piece = ({ delta }: LegDelta) => (typeof delta["content"] === "string" ? delta["content"] : "");
    return this.deltas.map(piece).join("");
  }
  get tokens(): number {
    return this.deltas.reduce((sum, delta) => sum + delta.tokens, 0);
  }
  #settle(end: End): void {
    if (this.#end !== null) this.violations.push(`${end.type} after ${this.#end.type}`);
    this.#end = end;
    this.#resolve(end);
  }
}

const OPENAI_DELTA_FIELDS = new Set(["role", "content", "refusal", "tool_calls", "reasoning", "reasoning_content"]);
const ACCEPT_MS = 10_000;

export function describeEngine(name: string, open: () => Promise<EngineRig>): void {
  describe(`engine: ${name}`, () => {
    let rig: EngineRig;
    let probe: EngineProbe;
    let serial = 0;

    beforeAll(async () => {
      rig = await open();
      probe = await rig.decode.probe();
    }, 120_000);
    afterAll(async () => rig?.close());

    const needs = <T>(context: TestContext, what: T | undefined | null, lacking: string): T => {
      if (what === undefined || what === null) context.skip(`absent: ${lacking}`);
      return what;
    };
    const needsLegs = (context: TestContext): Engine => {
      if (probe.capabilities.legs !== "prefill_first") context.skip("absent: two legs, prefill first");
      return needs(context, rig.prefill, "a prefill instance");
    };
    const chat = (content: string, more: Partial<ChatRequest> = {}): ChatRequest => ({
      model: rig.model,
      messages: [{ role: "user", content }],
      temperature: 0,
      max_tokens: 8,
      ...more,
    });
    const legRequest = (role: LegRole, body: ChatRequest, more: Partial<LegRequest> = {}): LegRequest => {
      const request_id = more.request_id ?? `conf-${++serial}`;
      return {
        leg_id: asId<"leg">(`${request_id}.${role}`),
        request_id,
        role,
        kind: "chat",
        body,
        handover: null,
        cache_salt: "tenant-a",
        accept_timeout_ms: ACCEPT_MS,
        ...more,
      };
    };
    const run = (engine: Engine, request: LegRequest): { recorder: Recorder; leg: RunningLeg } => {
      const recorder = new Recorder();
      return { recorder, leg: engine.start(request, recorder) };
    };
    const settle = async (engine: Engine, request: LegRequest) => {
      const { recorder } = run(engine, request);
      const end = await recorder.ended;
      expect(recorder.violations).toEqual([]);
      return { recorder, end };
    };
    const finished = (end: End): Finished => {
      if (end.type !== "finished") throw new Error(`expected finished, got ${JSON.stringify(end)}`);
      return end.end;
    };
    const failed = (end: End): LegFailure => {
      if (end.type !== "failed") throw new Error(`expected failed, got ${JSON.stringify(end)}`);
      return end.error;
    };
    const handoverOf = async (engine: Engine, body: ChatRequest, request_id: string): Promise<Handover> => {
      const { end } = await settle(engine, legRequest("prefill", body, { request_id }));
      const { handover } = finished(end);
      if (handover === null) throw new Error("prefill returned no hand-over");
      return handover;
    };
    /** Asks until it is so; the test's own timeout ends it. */
    const until = async (side: Side, holds: (stats: SideStats) => boolean): Promise<void> => {
      const stats = rig.stats;
      if (stats === undefined) return;
      while (!holds(await stats(side)));
    };

    describe("probe", () => {
      test("names the version, the model with its context, and what fits", () => {
        expect(probe.version).not.toBe("");
        expect(probe.kv_compat).toContain(probe.version);
        expect(probe.models.map((model) => model.id)).toContain(rig.model);
        expect(probe.models.every((model) => model.context_tokens > 0)).toBe(true);
        expect(probe.kv_tokens).toBeGreaterThan(0);
        expect(probe.slots).toBeGreaterThan(0);
      });
      test("is healthy and tells its load", async () => {
        expect(await rig.decode.healthy()).toBe(true);
        const load = await rig.decode.load();
        expect(load.kv_usage).toBeGreaterThanOrEqual(0);
        expect(load.kv_usage).toBeLessThanOrEqual(1);
      });
    });

    describe("a whole leg", () => {
      test("is accepted once, streams, finishes once, with usage", async () => {
        const { recorder, end } = await settle(rig.decode, legRequest("whole", chat("Tell me of rivers, mills and grain.")));
        const { usage, finish_reason, handover, usage_counted } = finished(end);
        expect(recorder.accepted_count).toBe(1);
        expect(recorder.text.length).toBeGreaterThan(0);
        expect(["stop", "length"]).toContain(finish_reason);
        expect(handover).toBeNull();
        expect(usage_counted).toBeUndefined();
        expect(usage.prompt_tokens).toBeGreaterThan(0);
        expect(usage.completion_tokens).toBeGreaterThan(0);
        expect(usage.completion_tokens).toBeLessThanOrEqual(8);
        expect(recorder.tokens).toBeLessThanOrEqual(usage.completion_tokens);
      });
      test.each([1, 2])("says how long the prompt was before its first token, once, and counts it once (n: %i)", async (n) => {
        const { recorder, end } = await settle(rig.decode, legRequest("whole", chat("How long is this?", { n, temperature: n - 1 })));
        const { prompt_tokens, completion_tokens } = finished(end).usage;
        expect(recorder.prompts).toEqual([{ prompt_tokens, deltas_before: 0 }]);
        expect(completion_tokens).toBeGreaterThanOrEqual(recorder.tokens);
      });
      test("carries no field that is not OpenAI's", async () => {
        const { recorder } = await settle(rig.decode, legRequest("whole", chat("Which fields come back?", { logprobs: true })));
        for (const each of recorder.deltas) {
          for (const field of Object.keys(each.delta)) expect(OPENAI_DELTA_FIELDS).toContain(field);
        }
      });
      test("runs a text completion", async () => {
        const request = legRequest("whole", chat("unused"));
        const body = { model: rig.model, prompt: "Once upon a time", max_tokens: 6, temperature: 0 };
        const { recorder, end } = await settle(rig.decode, { ...request, kind: "completion", body });
        expect(finished(end).usage.completion_tokens).toBeGreaterThan(0);
        expect(recorder.deltas.every((each) => Object.keys(each.delta).every((field) => field === "content"))).toBe(true);
      });
      test("keeps n choices apart", async () => {
        const { recorder, end } = await settle(rig.decode, legRequest("whole", chat("Two answers, please.", { n: 2, temperature: 1 })));
        finished(end);
        expect(new Set(recorder.deltas.map((each) => each.choice))).toEqual(new Set([0, 1]));
        for (const choice of [0, 1]) {
          const reasons = recorder.deltas.filter((each) => each.choice === choice).map((each) => each.finish_reason);
          expect(reasons.filter((reason) => reason !== null)).toHaveLength(1);
        }
      });
      test("many at once all finish", async () => {
        const ends = await Promise.all(
          Array.from({ length: 32 }, (_, i) => settle(rig.decode, legRequest("whole", chat(`Question ${i} of many.`)))),
        );
        for (const { end } of ends) finished(end);
      });
      test("a cancel in mid-stream is heard, and frees the engine", async () => {
        const { recorder, leg } = run(rig.decode, legRequest("whole", chat("A long story.", { max_tokens: 120 })));
        recorder.onDelta = (count) => {
          if (count === 3) leg.cancel();
        };
        expect(await recorder.ended).toEqual({ type: "cancelled" });
        leg.cancel(); // again: nothing
        await until("decode", (stats) => stats.running === 0 && stats.kv_blocks_used === 0);
        expect(recorder.violations).toEqual([]);
      });
      test("a cancel before the answer is heard, too", async () => {
        const { recorder, leg } = run(rig.decode, legRequest("whole", chat("Never mind.")));
        leg.cancel();
        expect(await recorder.ended).toEqual({ type: "cancelled" });
        expect(recorder.deltas).toEqual([]);
      });
    });

    describe("refusals and failures", () => {
      test("an unknown model is rejected", async () => {
        const { end } = await settle(rig.decode, legRequest("whole", { ...chat("Hello"), model: "nobody-has-this" }));
        expect(failed(end)).toMatchObject({ cause: "rejected", failure: { code: "model_not_found" } });
      });
      test("a prompt beyond the context is rejected", async () => {
        const context = probe.models.find((model) => model.id === rig.model)?.context_tokens ?? 0;
        const { end } = await settle(rig.decode, legRequest("whole", chat("many words and more ".repeat(context))));
        expect(failed(end)).toMatchObject({ cause: "rejected", failure: { code: "context_too_long" } });
      });
      test("hangs while healthy: the accept timeout ends it", async (context) => {
        await needs(context, rig.fault, "fault injection")("decode", { fault: "hang" });
        const { end } = await settle(rig.decode, legRequest("whole", chat("Hang"), { accept_timeout_ms: 50 }));
        expect(failed(end).cause).toBe("timeout");
        expect(await rig.decode.healthy()).toBe(true);
      });
      test("falls silent in mid-stream: a cancel ends it", async (context) => {
        await needs(context, rig.fault, "fault injection")("decode", { fault: "hang", after_tokens: 2 });
        const { recorder, leg } = run(rig.decode, legRequest("whole", chat("Silence")));
        recorder.onDelta = () => recorder.tokens === 2 && queueMicrotask(() => leg.cancel());
        expect(await recorder.ended).toEqual({ type: "cancelled" });
      });

      const cases: readonly (readonly [title: string, fault: object, cause: LegFailure["cause"]])[] = [
        ["connection cut in mid-stream", { fault: "cut", after_tokens: 3 }, "stream_cut"],
        ["early end of stream", { fault: "early_end", after_tokens: 3 }, "stream_cut"],
        ["garbage in the stream", { fault: "garbage", after_tokens: 3 }, "protocol"],
        ["an event that is not JSON", { fault: "bad_json", after_tokens: 3 }, "protocol"],
        ["an error event in a 200 stream", { fault: "error_event", after_tokens: 3 }, "status"],
        ["status 500", { fault: "status", status: 500 }, "status"],
        ["status 503", { fault: "status", status: 503 }, "status"],
        ["the answer of another request", { fault: "wrong_id" }, "protocol"],
      ];
      for (const [title, fault, cause] of cases) {
        test(title, async (context) => {
          await needs(context, rig.fault, "fault injection")("decode", { ...fault });
          const { recorder, end } = await settle(rig.decode, legRequest("whole", chat(`Fault: ${title}`)));
          expect(failed(end).cause).toBe(cause);
          if ("after_tokens" in fault) expect(recorder.tokens).toBe(3);
          finished((await settle(rig.decode, legRequest("whole", chat("And the next one?")))).end);
        });
      }
      for (const title of ["dribble", "crlf"]) {
        test(`bytes in odd pieces: ${title}`, async (context) => {
          const fault = needs(context, rig.fault, "fault injection");
          const body = chat("Grüße aus Köln, 日本語 and more", { max_tokens: 30 });
          const straight = await settle(rig.decode, legRequest("whole", body));
          await fault("decode", { fault: title });
          const odd = await settle(rig.decode, legRequest("whole", body));
          expect(odd.recorder.text).toBe(straight.recorder.text);
        });
      }
      for (const title of ["no_usage", "wrong_usage"]) {
        test(`usage block: ${title}: counted, and said so`, async (context) => {
          await needs(context, rig.fault, "fault injection")("decode", { fault: title });
          const { recorder, end } = await settle(rig.decode, legRequest("whole", chat("Count me")));
          expect(finished(end).usage_counted).toBe(true);
          expect(finished(end).usage.completion_tokens).toBe(recorder.tokens);
          expect(finished(end).usage.prompt_tokens).toBe(recorder.prompts[0]?.prompt_tokens);
        });
      }
      test("tokens after [DONE] are ignored", async (context) => {
        await needs(context, rig.fault, "fault injection")("decode", { fault: "after_done" });
        const { recorder, end } = await settle(rig.decode, legRequest("whole", chat("Done is done")));
        finished(end);
        expect(recorder.text).not.toContain("afterwards");
      });
      test("an extra answer on an idle connection is nobody's", async (context) => {
        const fault = needs(context, rig.fault, "fault injection");
        for (let round = 0; round < 20; round++) {
          await fault("decode", { fault: "extra_answer", delay_ms: round % 4 });
          finished((await settle(rig.decode, legRequest("whole", chat("Followed by an answer nobody asked for")))).end);
          const next = await settle(rig.decode, legRequest("whole", chat(`The next question, ${round}`)));
          expect(next.recorder.text).not.toContain("unsolicited");
          // Sent at the very moment of the extra answer, the next may fail; it is never answered by it.
          if (next.end.type === "failed") expect(["protocol", "stream_cut"]).toContain(next.end.error.cause);
        }
        finished((await settle(rig.decode, legRequest("whole", chat("All as before?")))).end);
      });
    });

    describe("two legs", () => {
      const body = () => chat("Prefill this on one instance and answer it on another, please, with the same words.", { max_tokens: 12 });

      test("prefill then decode gives what a whole leg gives; usage is prefill's and decode's", async (context) => {
        const prefill = needsLegs(context);
        const whole = await settle(rig.decode, legRequest("whole", body(), { cache_salt: "somebody-else" }));
        const handover = await handoverOf(prefill, body(), "pair-1");
        const { recorder, end } = await settle(rig.decode, legRequest("decode", body(), { handover, request_id: "pair-1" }));
        expect(recorder.text).toBe(whole.recorder.text);
        const { usage } = finished(end);
        expect(usage.prompt_tokens).toBe(finished(whole.end).usage.prompt_tokens);
        expect(usage.cached_tokens).toBe(handover.prefill_usage?.cached_tokens);
        expect(usage.completion_tokens).toBe(finished(whole.end).usage.completion_tokens);
        await until("prefill", (stats) => stats.held === 0 && stats.kv_blocks_used === 0);
      });
      test("both legs carry one request id, the salt, and nothing that prefill refuses", async (context) => {
        const prefill = needsLegs(context);
        const seen = needs(context, rig.seen, "a record of requests");
        const full = chat("Fields", { stream: true, stream_options: { include_usage: true }, stop: ["zzz"], max_completion_tokens: 9 });
        const handover = await handoverOf(prefill, full, "pair-fields");
        await settle(rig.decode, legRequest("decode", full, { handover, request_id: "pair-fields" }));
        const [first] = (await seen("prefill")).filter((request) => request.request_id === "pair-fields");
        const [second] = (await seen("decode")).filter((request) => request.request_id === "pair-fields");
        expect(first?.leg).toBe("prefill");
        expect(first?.fields).toEqual(expect.arrayContaining(["cache_salt", "kv_transfer_params", "stream"]));
        for (const field of ["stream_options", "min_tokens", "stop"]) expect(first?.fields).not.toContain(field);
        expect(second?.leg).toBe("decode");
        expect(second?.fields).toEqual(expect.arrayContaining(["cache_salt", "kv_transfer_params", "stream_options", "stop"]));
      });
      test("a second prefill of the prompt finds it cached, and another salt does not", async (context) => {
        const prefill = needsLegs(context);
        // Longer than one block of any engine here (16 tokens on a GPU, 128 on CPU).
        const long = chat("A prompt long enough for several blocks of cache. ".repeat(24), { max_tokens: 4 });
        const cached = async (cache_salt: string) => {
          const { end } = await settle(prefill, legRequest("prefill", long, { cache_salt }));
          const { handover, usage } = finished(end);
          await settle(rig.decode, legRequest("decode", long, { cache_salt, handover }));
          return usage.cached_tokens;
        };
        const [one, two] = [randomUUID(), randomUUID()]; // an engine that serves the suite again remembers
        expect(await cached(one)).toBe(0);
        expect(await cached(one)).toBeGreaterThan(0);
        expect(await cached(two)).toBe(0);
      });
      test("no decode leg begins after the lease", async (context) => {
        const prefill = needsLegs(context);
        const handover = await handoverOf(prefill, body(), "pair-late");
        const late = { ...handover, expires_at_ms: handover.expires_at_ms - probe.kv_lease_ms - 1_000 };
        const { end } = await settle(rig.decode, legRequest("decode", body(), { handover: late, request_id: "pair-late" }));
        expect(failed(end).cause).toBe("kv_lost");
        expect(await rig.decode.healthy()).toBe(true);
        // What prefill holds is still good, and let go when it is used.
        finished((await settle(rig.decode, legRequest("decode", body(), { handover, request_id: "pair-late" }))).end);
      });
      test("a decode leg that is not accepted before the lease ends is given up", async (context) => {
        const prefill = needsLegs(context);
        const fault = needs(context, rig.fault, "fault injection");
        const handover = await handoverOf(prefill, body(), "pair-slow");
        await fault("decode", { fault: "hang" });
        const soon = { ...handover, expires_at_ms: handover.expires_at_ms - probe.kv_lease_ms + 3_000 };
        const { end } = await settle(rig.decode, legRequest("decode", body(), { handover: soon, request_id: "pair-slow" }));
        expect(failed(end).cause).toBe("kv_lost");
        // What prefill holds is still good, and let go when it is used.
        finished((await settle(rig.decode, legRequest("decode", body(), { handover, request_id: "pair-slow" }))).end);
      });
      test("a cancelled decode leg lets prefill's blocks go", async (context) => {
        const prefill = needsLegs(context);
        const handover = await handoverOf(prefill, body(), "pair-cancel");
        const long = { ...body(), max_tokens: 100 };
        const { recorder, leg } = run(rig.decode, legRequest("decode", long, { handover, request_id: "pair-cancel" }));
        recorder.onDelta = (count) => count === 3 && leg.cancel();
        expect((await recorder.ended).type).toBe("cancelled");
        await until("prefill", (stats) => stats.held === 0 && stats.kv_blocks_used === 0);
        await until("decode", (stats) => stats.running === 0 && stats.kv_blocks_used === 0);
      });
      test("a cancelled prefill leg frees its blocks", async (context) => {
        const prefill = needsLegs(context);
        const { recorder, leg } = run(prefill, legRequest("prefill", body()));
        leg.cancel();
        expect((await recorder.ended).type).toBe("cancelled");
        await until("prefill", (stats) => stats.running + stats.waiting + stats.held === 0 && stats.kv_blocks_used === 0);
      });

      const unusable: readonly (readonly [title: string, params: object])[] = [
        ["remote_block_ids missing", { remote_block_ids: null }],
        ["remote_block_ids flat", { remote_block_ids: [1, 2] }],
        ["remote_block_ids empty", { remote_block_ids: [[]] }],
        ["no groups", { remote_block_ids: [] }],
        ["remote_host missing", { remote_host: null }],
        ["remote_port missing", { remote_port: null }],
        ["remote_engine_id missing", { remote_engine_id: null }],
        ["remote_request_id missing", { remote_request_id: "" }],
        ["do_remote_prefill false", { do_remote_prefill: false }],
      ];
      for (const [title, params] of unusable) {
        test(`prefill returned what would kill decode: ${title}`, async (context) => {
          const prefill = needsLegs(context);
          await needs(context, rig.fault, "fault injection")("prefill", { fault: "params", params });
          const { end } = await settle(prefill, legRequest("prefill", body()));
          expect(failed(end).cause).toBe("kv_lost");
        });
      }
      test("prefill returned no parameters at all", async (context) => {
        const prefill = needsLegs(context);
        await needs(context, rig.fault, "fault injection")("prefill", { fault: "no_params" });
        expect(failed((await settle(prefill, legRequest("prefill", body()))).end).cause).toBe("kv_lost");
      });
      test("prefill's answer is cut, garbage, or status 500", async (context) => {
        const prefill = needsLegs(context);
        const fault = needs(context, rig.fault, "fault injection");
        const expected = [
          [{ fault: "cut" }, "stream_cut"],
          [{ fault: "bad_json" }, "protocol"],
          [{ fault: "status", status: 500 }, "status"],
        ] as const;
        for (const [armed, cause] of expected) {
          await fault("prefill", armed);
          expect(failed((await settle(prefill, legRequest("prefill", body()))).end).cause).toBe(cause);
        }
      });
      test("the KV transfer is lost: the decode leg fails before any token, decode stays healthy", async (context) => {
        const prefill = needsLegs(context);
        const fault = needs(context, rig.fault, "fault injection");
        const handover = await handoverOf(prefill, body(), "pair-lost");
        await fault("prefill", { fault: "kv_lost" });
        const { recorder, end } = await settle(rig.decode, legRequest("decode", body(), { handover, request_id: "pair-lost" }));
        await fault("prefill", {});
        expect(failed(end).cause).toBe("kv_lost");
        expect(recorder.tokens).toBe(0);
        expect(await rig.decode.healthy()).toBe(true);
      });
      test("prefill dies holding KV: the decode leg fails, the next pair works", async (context) => {
        const prefill = needsLegs(context);
        const kill = needs(context, rig.kill, "a way to kill");
        const handover = await handoverOf(prefill, body(), "pair-dead");
        await kill("prefill");
        const { end } = await settle(rig.decode, legRequest("decode", body(), { handover, request_id: "pair-dead" }));
        expect(failed(end).cause).toBe("kv_lost");
        const fresh = needs(context, rig.prefill, "a prefill instance");
        const again = await handoverOf(fresh, body(), "pair-again");
        finished((await settle(rig.decode, legRequest("decode", body(), { handover: again, request_id: "pair-again" }))).end);
      });
    });

    describe("sleep", () => {
      test("sleeps and wakes, at both levels, and answers after", async (context) => {
        if (!probe.capabilities.sleep) context.skip("absent: sleep");
        for (const level of [1, 2] as const) {
          await rig.decode.sleep(level);
          await rig.decode.wake();
          finished((await settle(rig.decode, legRequest("whole", chat("Awake again?")))).end);
        }
      });
    });

    describe("gone", () => {
      test("a killed engine: legs in flight are cut, new ones cannot connect, health is false", async (context) => {
        const kill = needs(context, rig.kill, "a way to kill");
        const before = rig.decode;
        const { recorder } = run(before, legRequest("whole", chat("To be cut", { max_tokens: 120 })));
        const streaming = new Promise<void>((resolve) => (recorder.onDelta = () => resolve()));
        await streaming;
        await kill("decode");
        expect(failed(await recorder.ended).cause).toBe("stream_cut");
        expect(failed((await settle(before, legRequest("whole", chat("Anybody?")))).end).cause).toBe("connect");
        expect(await before.healthy()).toBe(false);
        finished((await settle(rig.decode, legRequest("whole", chat("And the new one?")))).end);
        before.close();
        const closed = run(before, legRequest("whole", chat("Closed?")));
        expect(closed.recorder.violations).toEqual([]);
        expect(failed(await closed.recorder.ended).cause).toBe("connect");
      });
    });
  });
}
