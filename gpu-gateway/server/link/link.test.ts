/** The link (schema/core/wire/link.ts) against a real gateway: numbers, resumption, attachment, credit, what is refused. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { callId, asId } from "../../../schema/core/ids.ts";
import { LINK_CREDIT_FRAMES } from "../../../schema/core/wire/limits.ts";
import { LINK_PROTOCOL, linkFromGateway, type LinkFromEdge, type LinkFromGateway } from "../../../schema/core/wire/link.ts";
import { revokeKey } from "../../../schema/db/queries/keys/revoke-key.ts";
import { DEFAULT_PROJECT, DEFAULT_TENANT } from "../../../schema/db/seed.ts";
import { MODEL, openWorld, type World } from "../../../test/support/gateway-world.ts";
import { until } from "../../../test/support/until.ts";

const HOOK_MS = 60_000;
let world: World;
beforeAll(async () => {
  world = await openWorld({ speed: 5 });
}, HOOK_MS);
afterAll(() => world.close(), HOOK_MS);

type Numbered = Extract<LinkFromGateway, { n: number }>;
class Peer {
  readonly frames: LinkFromGateway[] = [];
  closed: { code: number; reason: string } | null = null;
  readonly #socket: WebSocket;
  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (data: Buffer) => this.frames.push(linkFromGateway.parse(JSON.parse(data.toString()))));
    socket.on("close", (code, reason) => (this.closed = { code, reason: reason.toString() }));
    socket.on("error", () => undefined);
  }
  send(frame: LinkFromEdge): void {
    this.#socket.send(JSON.stringify(frame));
  }
  text(text: string): void {
    this.#socket.send(text);
  }
  of(call: string): Numbered[] {
    return this.frames.filter((frame): frame is Numbered => "n" in frame && frame.call === call);
  }
  end(call: string): Promise<Numbered> {
    return until(`the end of ${call}`, () => this.of(call).find((frame) => frame.type !== "token"), 20_000);
  }
  cut(): void {
    this.#socket.terminate();
  }
}

async function dial(token?: string): Promise<Peer> {
  const socket = new WebSocket(`${world.url().replace("http", "ws")}/link`, LINK_PROTOCOL, {
    headers: { authorization: `Bearer ${token ?? (await world.token())}` },
  });
  const peer = new Peer(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("unexpected-response", (_, response) => reject(new Error(`status ${response.statusCode}`)));
  });
  return peer;
}
async function linked(token?: string): Promise<Peer> {
  const peer = await dial(token);
  peer.send({ type: "hello", versions: [1], link: "link_1" });
  await until("welcome", () => peer.frames.find((frame) => frame.type === "welcome"));
  return peer;
}

let runs = 0;
function newCall(max_tokens = 16): Extract<LinkFromEdge, { type: "call" }> {
  const program = `run_${runs++}`;
  return {
    type: "call",
    call: callId(asId<"program">(program), "ask"),
    from: 0,
    context: { program, run: program, step: "ask", agent: "tester", deadline_ms: 60_000 },
    kind: "chat",
    body: { model: MODEL, messages: [{ role: "user", content: "Count the stones of the mill race." }], max_tokens },
  };
}
const textOf = (frames: readonly Numbered[]): string =>
  frames.map((frame) => (frame.type === "token" && typeof frame.delta["content"] === "string" ? frame.delta["content"] : "")).join("");

function expectWhole(frames: readonly Numbered[]): void {
  expect(frames.map((frame) => frame.n)).toEqual(frames.map((_, i) => i + 1));
  expect(frames.at(-1)?.type).toBe("done");
}

describe("a call", () => {
  test("is accepted, numbered without gaps, and says who served it", async () => {
    const peer = await linked();
    const call = newCall();
    peer.send(call);
    const end = await peer.end(call.call);
    expect(peer.frames.some((frame) => frame.type === "accepted" && frame.call === call.call)).toBe(true);
    expectWhole(peer.of(call.call));
    expect(end).toMatchObject({ type: "done", legs: [{ role: "prefill" }, { role: "decode" }] });
    peer.cut();
  });

  test("resumed after a broken link: no gap, no repeat, the same text", async () => {
    const whole = newCall(200);
    const first = await linked();
    first.send(whole);
    await until("some frames", () => first.of(whole.call).length > 3);
    first.cut();
    const had = first.of(whole.call);
    const second = await linked();
    second.send({ ...whole, from: had.length });
    await second.end(whole.call);
    const all = [...had, ...second.of(whole.call)];
    expectWhole(all);
    const third = await linked();
    third.send({ ...whole, from: 0 });
    await third.end(whole.call);
    expect(textOf(third.of(whole.call))).toBe(textOf(all));
    const { calls } = await world.state();
    expect(calls).toBe(0);
    second.cut();
    third.cut();
  });

  test("sent twice at once is one call, and both hear it", async () => {
    const call = newCall(50);
    const [a, b] = [await linked(), await linked()];
    a.send(call);
    b.send(call);
    const ends = await Promise.all([a.end(call.call), b.end(call.call)]);
    expect(ends[0]).toEqual(ends[1]);
    expect(textOf(a.of(call.call))).toBe(textOf(b.of(call.call)));
    a.cut();
    b.cut();
  });

  test("of the same id with another body is another call, and is refused: running, and ended", async () => {
    const call = newCall(200);
    const other = { ...call, body: { ...call.body, max_tokens: 7 } };
    const [a, b] = [await linked(), await linked()];
    a.send(call);
    await until("some frames", () => a.of(call.call).length > 0);
    b.send(other);
    expect(await b.end(call.call)).toMatchObject({ type: "refused", n: 1, error: { code: "idempotency_mismatch" } });
    expect((await a.end(call.call)).type).toBe("done");
    const c = await linked();
    c.send(other);
    expect(await c.end(call.call)).toMatchObject({ type: "refused", error: { code: "idempotency_mismatch" } });
    for (const peer of [a, b, c]) peer.cut();
  });

  test("of an unknown past is refused: what was told of it is lost", async () => {
    const peer = await linked();
    const call = { ...newCall(), from: 7 };
    peer.send(call);
    expect(await peer.end(call.call)).toMatchObject({ type: "refused", n: 8, error: { code: "gateway_lost" } });
    peer.cut();
  });

  test("of another tenant cannot be attached to, nor cancelled (I3)", async () => {
    const call = newCall(400);
    const [mine, theirs] = [await linked(), await linked(await world.token({ tenant: "ten_other" }))];
    mine.send(call);
    await until("some frames", () => mine.of(call.call).length > 0);
    theirs.send({ type: "cancel", call: call.call, reason: "envy" });
    theirs.send(call);
    expect(await theirs.end(call.call)).toMatchObject({ type: "refused", error: { code: "invalid_request" } });
    expect((await mine.end(call.call)).type).toBe("done");
    mine.cut();
    theirs.cut();
  });

  test("is cancelled", async () => {
    const peer = await linked();
    const call = newCall(4_000);
    peer.send(call);
    await until("some frames", () => peer.of(call.call).length > 0);
    peer.send({ type: "cancel", call: call.call, reason: "enough" });
    expect(await peer.end(call.call)).toMatchObject({ type: "refused", error: { code: "cancelled", detail: "enough" } });
    peer.cut();
  });

  test("without credit stops at the limit and grows its last frame; with credit it goes on", async () => {
    const peer = await linked();
    const call = newCall(LINK_CREDIT_FRAMES + 500);
    // The simulated model says the one value that its schema allows, however long.
    const schema = { enum: ["mill race ".repeat(LINK_CREDIT_FRAMES)] };
    Object.assign(call.body, { response_format: { type: "json_schema", json_schema: { name: "long", schema } } });
    peer.send(call);
    await until("the credit to be used up", () => peer.of(call.call).length === LINK_CREDIT_FRAMES, 30_000);
    await until("the call to end behind it", async () => (await world.state()).calls === 0, 30_000);
    expect(peer.of(call.call)).toHaveLength(LINK_CREDIT_FRAMES);
    peer.send({ type: "credit", call: call.call, n: LINK_CREDIT_FRAMES });
    await peer.end(call.call);
    expectWhole(peer.of(call.call));
    // All that was held back came in one frame.
    expect(peer.of(call.call).length).toBeLessThan(LINK_CREDIT_FRAMES + 5);
    peer.cut();
  }, 90_000);
});

describe("what is refused", () => {
  test("before the upgrade: no token, a wrong one, a missing scope", async () => {
    await expect(dial("nonsense")).rejects.toThrow("401");
    await expect(dial(await world.token({ scopes: ["usage"] }))).rejects.toThrow("403");
  });

  test("before the upgrade: a client's own key, whatever its scopes, for it could say what the edge alone may", async () => {
    await expect(dial(world.key)).rejects.toThrow("403");
  });

  test.each([["not json"], ["null"], ["[]"], ['{"type":"call"}'], ['{"type":"no_such_frame"}']])(
    "%s is a fault, and the link goes on",
    async (text) => {
      const peer = await linked();
      peer.text(text);
      await until("a fault", () => peer.frames.some((frame) => frame.type === "fault" && frame.error.code === "malformed_frame"));
      peer.send({ type: "ping", t: 1 });
      await until("a pong", () => peer.frames.some((frame) => frame.type === "pong"));
      peer.cut();
    },
  );

  test("a call that sets an engine's field is refused by its id: its sender hears of its end", async () => {
    const peer = await linked();
    const call = newCall();
    peer.text(JSON.stringify({ ...call, body: { ...call.body, kv_transfer_params: {} } }));
    const error = { code: "engine_internal_field", param: "kv_transfer_params" };
    expect(await peer.end(call.call)).toMatchObject({ type: "refused", n: 1, emitted: 0, error });
    peer.cut();
  });

  test("a version that is not spoken", async () => {
    const peer = await dial();
    peer.send({ type: "hello", versions: [99], link: "link_1" });
    await until("the link to close", () => peer.closed);
    expect(peer.frames).toMatchObject([{ type: "fault", error: { code: "unsupported_version" } }]);
  });

  test("a frame that is too large closes the link", async () => {
    const peer = await linked();
    peer.text("x".repeat(3_000_000));
    expect(await until("the link to close", () => peer.closed)).toMatchObject({ code: 1009 });
  });

  test("a link whose key is revoked", async () => {
    const { key } = await world.makeKey(["infer"]);
    const peer = await linked(await world.token({ key }));
    const call = newCall(8_000);
    peer.send(call);
    await until("some frames", () => peer.of(call.call).length > 0);
    await revokeKey(world.sql, { tenant: DEFAULT_TENANT, project: DEFAULT_PROJECT, key });
    expect(await until("the link to close", () => peer.closed)).toMatchObject({ code: 1008, reason: "revoked_key" });
    await until("its call to end", async () => (await world.state()).calls === 0);
  });
});

describe("a killed gateway", () => {
  test("a call without answer yet is run again; one that had begun is refused", async () => {
    const before = await linked();
    const begun = newCall(2_000);
    before.send(begun);
    await until("some frames", () => before.of(begun.call).length > 2);
    await world.stop("SIGKILL");
    await world.start();
    const after = await linked();
    after.send({ ...begun, from: before.of(begun.call).length });
    expect(await after.end(begun.call)).toMatchObject({ type: "refused", error: { code: "gateway_lost" } });
    const again = { ...newCall(8), from: 0 };
    after.send(again);
    expect((await after.end(again.call)).type).toBe("done");
    after.cut();
  }, 60_000);
});
