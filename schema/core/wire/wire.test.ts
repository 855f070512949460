import { describe, expect, test } from "vitest";
import { ENGINE_INTERNAL_FIELDS, chatRequest, completionRequest } from "./chat.ts";
import { deployRequest, functionName, runEvent, usageReport } from "./http.ts";
import { CODE_BYTES_MAX, MESSAGES_MAX, N_MAX, SESSION_MESSAGE_CHARS_MAX } from "./limits.ts";
import { linkFromEdge, linkFromGateway } from "./link.ts";
import { sessionEvent, sessionFromClient, sessionToClient } from "./session.ts";
import { tokenClaims } from "./token.ts";
import { usageEvent } from "./usage.ts";

const ok = (schema: { safeParse(value: unknown): { success: boolean } }, value: unknown) => schema.safeParse(value).success;
const message = { role: "user", content: "hi" };

describe("chat", () => {
  test("unknown and engine-internal fields do not travel (I11)", () => {
    const smuggled = Object.fromEntries(ENGINE_INTERNAL_FIELDS.map((field) => [field, { any: "thing" }]));
    const parsed = chatRequest.parse({ model: "m", messages: [message], nonsense: 1, ...smuggled });
    expect(parsed).toEqual({ model: "m", messages: [message] });
    expect(completionRequest.parse({ model: "m", prompt: "hi", ...smuggled })).toEqual({ model: "m", prompt: "hi" });
  });

  test("limits are refused one past them and not before", () => {
    const chat = (extra: object) => ({ model: "m", messages: [message], ...extra });
    expect(ok(chatRequest, chat({ n: N_MAX }))).toBe(true);
    expect(ok(chatRequest, chat({ n: N_MAX + 1 }))).toBe(false);
    expect(ok(chatRequest, chat({ messages: Array.from({ length: MESSAGES_MAX }, () => message) }))).toBe(true);
    expect(ok(chatRequest, chat({ messages: Array.from({ length: MESSAGES_MAX + 1 }, () => message) }))).toBe(false);
    expect(ok(chatRequest, chat({ messages: [] }))).toBe(false);
    expect(ok(chatRequest, chat({ temperature: null, stream: null }))).toBe(true);
  });

  test("tool calls and their answers pass", () => {
    const call = { id: "1", type: "function", function: { name: "f", arguments: "{}" } };
    const messages = [message, { role: "assistant", content: null, tool_calls: [call] }, { role: "tool", content: "4", tool_call_id: "1" }];
    expect(chatRequest.parse({ model: "m", messages }).messages).toEqual(messages);
  });
});

describe("link", () => {
  test("a call carries whom it is for; a frame of no known type is none", () => {
    const context = { program: "run_1", step: "a/1", deadline_ms: 1_000 };
    const call = { type: "call", call: "call_1", from: 0, context, kind: "chat", body: { model: "m", messages: [message] } };
    expect(linkFromEdge.parse(call)).toEqual(call);
    expect(ok(linkFromEdge, { ...call, context: { ...context, deadline_ms: 0 } })).toBe(false);
    expect(ok(linkFromEdge, { ...call, call: "a b" })).toBe(false);
    expect(ok(linkFromEdge, { type: "shout" })).toBe(false);
  });

  test("output is numbered from 1, an error is one of the catalogue", () => {
    expect(ok(linkFromGateway, { type: "token", call: "c", n: 0, choice: 0, delta: {}, tokens: 1 })).toBe(false);
    expect(ok(linkFromGateway, { type: "refused", call: "c", n: 1, emitted: 0, error: { code: "queue_full" } })).toBe(true);
    expect(ok(linkFromGateway, { type: "refused", call: "c", n: 1, emitted: 0, error: { code: "bad_mood" } })).toBe(false);
  });
});

describe("session", () => {
  test("a client resumes, speaks, cancels and acknowledges", () => {
    for (const frame of [
      { type: "hello", resume_from: 0 },
      { type: "message", id: "m1", text: "hi" },
      { type: "cancel" },
      { type: "ack", seq: 3 },
    ]) {
      expect(sessionFromClient.parse(frame)).toEqual(frame);
    }
    expect(ok(sessionFromClient, { type: "message", id: "m", text: "x".repeat(SESSION_MESSAGE_CHARS_MAX + 1) })).toBe(false);
    expect(ok(sessionFromClient, { type: "hello", resume_from: -1 })).toBe(false);
  });

  test("what is logged has a seq; welcome and refused have none to give", () => {
    expect(ok(sessionEvent, { type: "turn.done", turn: "t", output: null, at_ms: 1 })).toBe(false);
    expect(ok(sessionToClient, { type: "welcome", session: "ses_1", seq: 0 })).toBe(true);
    expect(ok(sessionToClient, { type: "turn.done", seq: 1, at_ms: 1, turn: "t", output: null })).toBe(true);
  });
});

describe("HTTP", () => {
  test("a deployment's defaults are filled in", () => {
    const config = { timeout_ms: 60_000, egress: [], isolation: "version" };
    expect(deployRequest.parse({ name: "swarm", code: "x" })).toEqual({ name: "swarm", code: "x", alias: "live", config });
    expect(ok(deployRequest, { name: "swarm", code: "x".repeat(CODE_BYTES_MAX + 1) })).toBe(false);
  });

  test.each(["", "A", "1a", "a_b", "a".repeat(64), "a/b"])("%j names no function", (name) => {
    expect(ok(functionName, name)).toBe(false);
  });

  test("an event of a run has a number", () => {
    expect(ok(runEvent, { type: "run.done", output: 1 })).toBe(false);
    expect(ok(runEvent, { type: "run.done", seq: 3, output: 1 })).toBe(true);
  });

  test("a report's numbers are strings", () => {
    expect(usageReport.shape.total.shape.decode_gpu_ns.safeParse(1).success).toBe(false);
  });
});

test("a token names its tenant, project, key and known scopes", () => {
  const claims = { tenant: "ten_1", project: "prj_1", key: "key_1", scopes: ["infer"] };
  expect(tokenClaims.parse(claims)).toEqual(claims);
  expect(ok(tokenClaims, { ...claims, scopes: ["root"] })).toBe(false);
});

test("a usage event's quantities are integers of up to 38 digits, negative for a correction", () => {
  const event = { id: "use_1", source: "fold", kind: "gpu_time", from_ns: "0", to_ns: "1", quantity: "-1" };
  expect(usageEvent.parse(event)).toEqual(event);
  expect(ok(usageEvent, { ...event, quantity: "1.5" })).toBe(false);
  expect(ok(usageEvent, { ...event, quantity: "9".repeat(39) })).toBe(false);
  expect(ok(usageEvent, { ...event, quantity: 1 })).toBe(false);
});
