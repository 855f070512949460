import { expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { micros } from "../../schema/core/time.ts";
import type { ChatRequest } from "../../schema/core/wire/chat.ts";
import { Intake } from "./intake.ts";
import { chatPieces, completionPieces } from "./prompt-prefix.ts";

const words = (n: number, of = "mill race "): string => of.repeat(Math.ceil(n / of.length)).slice(0, n);
const chat = (...contents: readonly string[]): ChatRequest => ({
  model: "m",
  messages: contents.map((content, n) => ({ role: n % 2 === 0 ? ("user" as const) : ("assistant" as const), content })),
});
const shared = (a: readonly number[], b: readonly number[]): number => {
  const parted = a.findIndex((hash, n) => b[n] !== hash);
  return parted < 0 ? a.length : parted;
};

test("a conversation that goes on keeps its hashes: a piece of 256 characters each, the role a part of the text", () => {
  const first = chatPieces(chat(words(1_000)), "salt").hashes;
  const next = chatPieces(chat(words(1_000), words(500), words(100)), "salt").hashes;
  expect(first.length).toBe(Math.floor((1_000 + 16) / 256));
  expect(next.length).toBe(Math.floor((1_600 + 3 * 16) / 256));
  expect(shared(first, next)).toBe(first.length);
  const said_by_another: ChatRequest = { model: "m", messages: [{ role: "system", content: words(1_000) }] };
  expect(shared(first, chatPieces(said_by_another, "salt").hashes)).toBe(0);
});

test("prompts that part share the pieces before, and none after even if they agree again", () => {
  const a = completionPieces({ prompt: `${words(600)}A${words(600)}` }, "salt").hashes;
  const b = completionPieces({ prompt: `${words(600)}B${words(600)}` }, "salt").hashes;
  expect(shared(a, b)).toBe(2);
  expect(a.filter((hash) => b.includes(hash)).length).toBe(2);
});

test("tenants share no hash (I3)", () => {
  const a = chatPieces(chat(words(10_000)), "salt of a").hashes;
  const b = chatPieces(chat(words(10_000)), "salt of b").hashes;
  expect(a.filter((hash) => b.includes(hash))).toEqual([]);
});

test("token ids are pieces of 64; other tools, another beginning; nothing is known behind an image", () => {
  expect(completionPieces({ prompt: Array.from({ length: 200 }, (_, n) => n) }, "s").hashes.length).toBe(3);
  const tools = [{ type: "function" as const, function: { name: "look", description: words(600) } }];
  expect(shared(chatPieces({ ...chat(words(600)), tools }, "s").hashes, chatPieces(chat(words(600)), "s").hashes)).toBe(0);
  const pictured: ChatRequest = {
    model: "m",
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: words(300) },
          { type: "image_url", image_url: { url: "data:," } },
          { type: "text", text: words(3_000) },
        ],
      },
    ],
  };
  expect(chatPieces(pictured, "s").hashes.length).toBe(1);
});

test("at most 2,048 pieces, and all are exact in a number (I8)", () => {
  const { hashes } = completionPieces({ prompt: words(700_000) }, "s");
  expect(hashes.length).toBe(2_048);
  expect(new Set(hashes).size).toBe(2_048);
  expect(hashes.every(Number.isSafeInteger)).toBe(true);
});

test("intake tells policy of it when asked to, in tokens as they have turned out to be", () => {
  const intake = new Intake({ cacheSalt: (tenant) => tenant, max_tokens_default: 16, prompt_prefixes: true });
  const request = (tenant: string) => ({
    call_id: asId<"call">("c"),
    tags: {
      tenant,
      project: "p",
      function: "f",
      version: "1",
      run: "r",
      session: null,
      program: "r",
      agent: null,
      step: null,
      model: "m",
      key: "k",
    } as never,
    kind: "chat" as const,
    body: chat(words(1_000)),
    deadline_ms: 1_000,
    resumable: false,
  });
  const entry = intake.entry(request("ten_a"), micros(0), null);
  expect(entry.call.prefix).toMatchObject({ block_tokens: 64, blocks: [expect.any(Number), expect.any(Number), expect.any(Number)] });
  expect(intake.entry(request("ten_b"), micros(0), null).call.prefix?.blocks).not.toEqual(entry.call.prefix?.blocks);
  // The engine counted twice as many tokens.
  intake.learn({ ...entry, prompt: { tokens: entry.call.prompt_tokens * 2, cached: 0 } });
  expect(intake.entry(request("ten_a"), micros(0), null).call.prefix?.block_tokens).toBe(128);
  const without = new Intake({ cacheSalt: (tenant) => tenant, max_tokens_default: 16 });
  expect(without.entry(request("ten_a"), micros(0), null).call.prefix).toBe(undefined);
});
