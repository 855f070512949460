/** The edge's end of the link against a peer in a process of its own: reconnects, restarts, cancels, limits. */
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import type { PeerControl, PeerState } from "../test/support/link-peer.ts";
import { createGatewayClient, type GatewayCall, type GatewayClient, type GatewayFrame } from "./gateway-client.ts";
import type { LinkTiming } from "./gateway-client-timing.ts";

const peer = inject("link_peer");
const QUICK: Partial<LinkTiming> = { backoff_ms_min: 1, backoff_ms_max: 10, tick_ms: 1, linger_ms: 20, away_ms_max: 200 };
const TENANT = "ten_link";
const clients: GatewayClient[] = [];
let named = 0;

function client(timing: Partial<LinkTiming> = {}, cell_secret = peer.cell_secret): GatewayClient {
  const opened = createGatewayClient({
    env: { GATEWAY_URL: peer.url, MILLRACE_CELL_SECRET: cell_secret },
    link_id: "ses_link",
    claims: { tenant: TENANT, project: "prj_a", key: "key_a", scopes: ["infer"] },
    timing: { ...QUICK, ...timing },
    random: () => 0.5,
  });
  clients.push(opened);
  return opened;
}

function request(script: object, changes: Partial<GatewayCall> = {}): GatewayCall {
  named += 1;
  return {
    call: `call_${named}_${crypto.randomUUID()}`,
    from: 0,
    context: { program: "run_1", step: "a", deadline_ms: 10_000 },
    kind: "chat",
    body: { model: "llama-3-8b", messages: [{ role: "user", content: JSON.stringify({ peer: script }) }] },
    ...changes,
  };
}

async function collect(link: GatewayClient, call: GatewayCall): Promise<GatewayFrame[]> {
  const frames: GatewayFrame[] = [];
  await link.call(call, (frame) => void frames.push(frame));
  return frames;
}

async function control(command: PeerControl): Promise<PeerState> {
  const response = await fetch(`${peer.url}/control`, { method: "POST", body: JSON.stringify({ ...command, tenant: TENANT }) });
  return response.json();
}
const state = async (): Promise<PeerState> => (await fetch(`${peer.url}/control?tenant=${TENANT}`)).json();

const text = (frames: GatewayFrame[]) => frames.map((frame) => (frame.type === "token" ? String(frame.delta["content"]) : "")).join("");
const words = (count: number) => Array.from({ length: count }, (_, index) => `w${index + 1} `).join("");
const numbers = (frames: GatewayFrame[]) => frames.flatMap((frame) => ("n" in frame ? [frame.n] : []));
const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1);

beforeEach(() => control({ do: "refuse_upgrades", status: 0 }));
afterEach(() => {
  for (const opened of clients.splice(0)) opened.close();
});

test("a call's frames arrive in order and end with done", async () => {
  const frames = await collect(client(), request({ words: 30, queued: 3 }));
  expect(frames.slice(0, 2).map((frame) => frame.type)).toEqual(["accepted", "queued"]);
  expect(text(frames)).toBe(words(30));
  expect(numbers(frames)).toEqual(upTo(31));
  expect(frames.at(-1)?.type).toBe("done");
});

test("a hundred calls at once share one connection", async () => {
  const before = (await state()).connections_total;
  const link = client();
  const all = await Promise.all(upTo(100).map(() => collect(link, request({ words: 5 }))));
  for (const frames of all) expect(text(frames)).toBe(words(5));
  expect((await state()).connections_total - before).toBe(1);
});

test("connections that die in mid-stream lose and repeat nothing", async () => {
  const link = client();
  const call = request({ words: 60, interval_ms: 1, kill_after: [1, 7, 20, 3] });
  const frames = await collect(link, call);
  expect(text(frames)).toBe(words(60));
  expect(numbers(frames)).toEqual(upTo(61));
  expect((await state()).calls[call.call]).toMatchObject({ runs: 1, attached: 4 });
});

test("a gateway that restarted before the first token runs the call again", async () => {
  const link = client();
  const call = request({ hang: true });
  const collected = collect(link, call);
  await untilState((peer_state) => peer_state.calls[call.call] !== undefined);
  await control({ do: "restart" });
  await untilState((peer_state) => peer_state.calls[call.call]?.runs === 2);
  link.cancel(call.call, "enough");
  expect((await collected).at(-1)).toMatchObject({ type: "refused", n: 1, error: { code: "cancelled" } });
});

test("a gateway that restarted after tokens were seen: gateway_lost, once, after what was received", async () => {
  const frames = await collect(client(), request({ words: 50, interval_ms: 1, restart_after: 10 }));
  expect(frames.at(-1)).toMatchObject({ type: "refused", error: { code: "gateway_lost" } });
  expect(numbers(frames)).toEqual(upTo(numbers(frames).length));
});

test("a gateway that stays away: gateway_unavailable within the bound, and the next call works when it is back", async () => {
  const link = client();
  await control({ do: "refuse_upgrades", status: 503 });
  const [last] = await collect(link, request({ words: 1 }));
  expect(last).toMatchObject({ type: "refused", n: 1, emitted: 0, error: { code: "gateway_unavailable" } });
  await control({ do: "refuse_upgrades", status: 0 });
  expect(text(await collect(link, request({ words: 3 })))).toBe(words(3));
});

test("a token that the gateway refuses ends the call at once", async () => {
  const [last] = await collect(client({ away_ms_max: 60_000 }, "another secret, also long enough"), request({ words: 1 }));
  expect(last).toMatchObject({ type: "refused", error: { code: "gateway_unavailable" } });
});

test("a half-open socket is noticed by silence and replaced", async () => {
  const link = client({ ping_ms: 10, silence_ms_max: 40 });
  const call = request({ words: 40, interval_ms: 5 });
  const collected = collect(link, call);
  await untilState((peer_state) => (peer_state.calls[call.call]?.frames ?? 0) > 3);
  await control({ do: "silence" });
  expect(text(await collected)).toBe(words(40));
});

test("a call whose gateway hangs ends at its deadline", async () => {
  const call = request({ hang: true }, { context: { program: "run_1", step: "a", deadline_ms: 30 } });
  const frames = await collect(client({ deadline_grace_ms: 10 }), call);
  expect(frames.at(-1)).toMatchObject({ type: "refused", n: 1, error: { code: "deadline_exceeded" } });
  await untilState((peer_state) => peer_state.calls[call.call]?.cancelled === "deadline_exceeded");
});

test("cancel reaches the gateway, whose own word ends the call", async () => {
  const link = client();
  const call = request({ words: 100_000, interval_ms: 1 });
  const frames: GatewayFrame[] = [];
  await link.call(call, (frame) => {
    frames.push(frame);
    if (frames.length === 5) link.cancel(call.call, "user asked");
  });
  expect(frames.at(-1)).toMatchObject({ type: "refused", error: { code: "cancelled", detail: "user asked" } });
  expect((await state()).calls[call.call]?.cancelled).toBe("user asked");
});

test("a call that no gateway has seen is cancelled here", async () => {
  const link = client();
  await control({ do: "refuse_upgrades", status: 503 });
  const call = request({ words: 5 });
  const collected = collect(link, call);
  link.cancel(call.call, "never mind");
  expect(await collected).toMatchObject([{ type: "refused", error: { code: "cancelled" } }]);
});

test("a call goes on from a cursor of an earlier life", async () => {
  const call = request({ words: 20 });
  await collect(client(), call);
  const frames = await collect(client(), { ...call, from: 12 });
  expect(numbers(frames)).toEqual(upTo(21).slice(12));
});

test("credit is given only for what was stored", async () => {
  const link = client();
  const call = request({ words: 10, interval_ms: 1 });
  const gate = Promise.withResolvers<void>();
  const done = link.call(call, (frame) => (frame.type === "token" ? gate.promise : undefined));
  await untilState((peer_state) => peer_state.calls[call.call]?.ended ?? false);
  expect((await state()).calls[call.call]?.credited).toBe(0);
  gate.resolve();
  await done;
  await untilState((peer_state) => peer_state.calls[call.call]?.credited === 11);
});

test("what cannot be stored cancels nothing else: the call rejects with it", async () => {
  const link = client();
  const broken = link.call(request({ words: 5 }), () => {
    throw new Error("disk full");
  });
  const [outcome, frames] = await Promise.all([broken.catch((error: unknown) => error), collect(link, request({ words: 5 }))]);
  expect(outcome).toMatchObject({ message: "disk full" });
  expect(text(frames)).toBe(words(5));
});

test("beyond what a link takes calls wait, and all are answered", async () => {
  const link = client();
  const all = await Promise.all(upTo(400).map(() => collect(link, request({ words: 1 }))));
  expect(all.every((frames) => frames.at(-1)?.type === "done")).toBe(true);
});

test("a call larger than a frame may be is refused here, and leaves the link alone", async () => {
  const link = client();
  const body: GatewayCall["body"] = { model: "m", messages: [{ role: "user", content: "x".repeat(2_200_000) }] };
  expect(await collect(link, request({}, { body }))).toMatchObject([{ type: "refused", error: { code: "body_too_large" } }]);
});

test("an idle link is closed after lingering", async () => {
  const link = client();
  await collect(link, request({ words: 1 }));
  expect(link.connected).toBe(true);
  await untilState(() => !link.connected);
});

async function untilState(holds: (peer_state: PeerState) => boolean): Promise<void> {
  const give_up = performance.now() + 5_000;
  while (!holds(await state())) if (performance.now() > give_up) throw new Error("the state awaited did not come");
}
