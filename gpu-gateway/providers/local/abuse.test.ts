/** What the agent is sent by someone who should not, or by a gateway gone wrong (reference: inputs to refuse). Nothing of it changes the node. */
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { until, within } from "../../../test/support/until.ts";
import { BODY_BYTES_MAX, LEASE_MS_MAX, POLLS_MAX } from "../../node-agent/limits.ts";
import { problem, snapshot } from "../../node-agent/wire.ts";
import type { Provider } from "../../ports/provider.ts";
import { LocalNode, tinyEngine } from "./testing.ts";

const node = new LocalNode({ tiny: tinyEngine() });
const provider: Provider = node.create();
const CLAIM = { cell: "cell_abuse", epoch: 3, lease_ms: 60_000 };
const LAUNCH = { cell: CLAIM.cell, epoch: CLAIM.epoch, group_id: "grp_x", model: "tiny", role: "both", engine: "tiny", gpus: 1 };

beforeAll(async () => {
  await provider.open(CLAIM, () => {});
});
afterAll(async () => {
  await provider.close();
  node.close();
});

function agent() {
  const file = node.agent();
  if (file === null) throw new Error("no agent runs");
  return file;
}
async function ask(method: string, route: string, body?: string | Uint8Array<ArrayBuffer>, authorization = `Bearer ${agent().token}`) {
  const response = await fetch(`${agent().url}${route}`, {
    method,
    headers: { "content-type": "application/json", ...(authorization === "" ? {} : { authorization }) },
    ...(body === undefined ? {} : { body }),
  });
  const content: unknown = await response.json();
  const type = response.headers.get("content-type");
  if (response.ok) return { status: response.status, content, code: null };
  expect(type).toBe("application/problem+json");
  const told = problem.parse(content);
  expect(told.status).toBe(response.status);
  return { status: response.status, content, code: told.code };
}
const launch = (change: object) => ask("POST", "/v1/groups/launch", JSON.stringify({ ...LAUNCH, ...change }));
const claim = (change: object) => ask("POST", "/v1/claim", JSON.stringify({ ...CLAIM, ...change }));
const state = async () => {
  const { seq: _, ...rest } = snapshot.parse((await ask("GET", "/v1/node")).content);
  return rest;
};

describe("the agent refuses", () => {
  test("whoever lacks its token, on every path", async () => {
    const wrong = [
      "",
      "Bearer",
      "Bearer ",
      "Bearer x",
      `Basic ${agent().token}`,
      `Bearer ${agent().token}x`,
      `Bearer ' OR 1=1 --`,
      `Bearer ${"a".repeat(8_000)}`,
    ];
    for (const route of ["/v1/claim", "/v1/groups/launch", "/v1/groups/stop", "/v1/release", "/v1/events", "/no/such/path"])
      for (const authorization of wrong) expect((await ask("POST", route, "{}", authorization)).status).toBe(401);
  });

  test("to let other users read the token", () => {
    expect(statSync(path.join(node.state_dir, "agent.json")).mode & 0o777).toBe(0o600);
    expect(statSync(node.state_dir).mode & 0o077).toBe(0);
  });

  test("unknown paths and methods", async () => {
    expect((await ask("GET", "/")).code).toBe("not_found");
    expect((await ask("GET", "/v1/../etc/passwd")).code).toBe("not_found");
    expect((await ask("GET", "/v1/%2e%2e/agent.json")).code).toBe("not_found");
    expect((await ask("GET", "/v1/claim")).code).toBe("method_not_allowed");
    expect((await ask("DELETE", "/v1/node")).code).toBe("method_not_allowed");
  });

  test("bodies that are not JSON, or too large", async () => {
    const before = await state();
    const garbage = ["", "{", "{]", "undefined", "\u0000", "NaN", `${JSON.stringify(CLAIM)}x`, "'{}'", "[".repeat(30_000)];
    for (const route of ["/v1/claim", "/v1/groups/launch", "/v1/groups/stop", "/v1/release"]) {
      for (const body of garbage) expect((await ask("POST", route, body)).code).toBe("malformed_json");
      expect((await ask("POST", route, new Uint8Array([0x22, 0xff, 0xfe, 0x22]))).code).toBe("malformed_json");
      expect((await ask("POST", route, "x".repeat(BODY_BYTES_MAX + 1))).code).toBe("body_too_large");
      for (const body of [
        "null",
        "1",
        '"x"',
        "[]",
        "{}",
        '{"__proto__":{"cell":"c","epoch":9}}',
        `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
      ])
        expect((await ask("POST", route, body)).code).toBe("invalid_request");
    }
    expect(await state()).toEqual(before);
  });

  test("numbers out of their range", async () => {
    const before = await state();
    for (const epoch of [-1, 1.5, "3", null, 2 ** 53, true]) expect((await claim({ epoch })).code).toBe("invalid_request");
    expect((await ask("POST", "/v1/claim", '{"cell":"cell_abuse","epoch":1e400,"lease_ms":1000}')).code).toBe("invalid_request");
    for (const lease_ms of [0, -1, 99, LEASE_MS_MAX + 1, 0.5, "1000"]) expect((await claim({ lease_ms })).code).toBe("invalid_request");
    for (const gpus of [0, -1, 1e6, 1.5, "1"]) expect((await launch({ gpus })).code).toBe("invalid_request");
    for (const cell of ["", "c".repeat(129), 1, null]) expect((await claim({ cell })).code).toBe("invalid_request");
    expect(await state()).toEqual(before);
  });

  test("group ids and models that could leave a folder or be read as an option", async () => {
    for (const group_id of [
      "../../etc/x",
      "..",
      ".",
      "/abs",
      "a/b",
      "a/../../b",
      "a\\..\\b\n",
      "a\0",
      "",
      "-rf",
      "a".repeat(129),
      "grp x",
      "%2e%2e%2f",
    ]) {
      expect((await launch({ group_id })).code).toBe("invalid_request");
      expect((await ask("POST", "/v1/groups/stop", JSON.stringify({ ...LAUNCH, group_id }))).code).toBe("invalid_request");
    }
    for (const model of ["--help", "../../secret", "a/../../b", "", "a b", "a;b", "$(id)", "m".repeat(257)])
      expect((await launch({ model })).code).toBe("invalid_request");
    for (const engine of ["__proto__", "constructor", "toString", "/bin/sh"])
      expect((await launch({ engine })).code).toBe("unknown_engine");
    expect(readdirSync(node.state_dir)).not.toContain("logs");
  });

  test("old epochs and other cells, naming the epoch that commands", async () => {
    expect((await claim({ epoch: 2 })).content).toMatchObject({ status: 409, code: "stale_epoch", current_epoch: 3 });
    expect((await launch({ epoch: 2 })).content).toMatchObject({ status: 409, code: "stale_epoch", current_epoch: 3 });
    for (const route of ["/v1/claim", "/v1/groups/launch", "/v1/groups/stop", "/v1/release"])
      expect((await ask("POST", route, JSON.stringify({ ...CLAIM, ...LAUNCH, cell: "cell_other", epoch: 99 }))).code).toBe("node_claimed");
  });
});

test("polls beyond the limit are answered at once", async () => {
  const { stream, seq } = snapshot.parse((await ask("GET", "/v1/node")).content);
  const gone = new AbortController();
  const route = `${agent().url}/v1/events?stream=${stream}&after=${seq}&wait_ms=20000`;
  const poll = () => fetch(route, { headers: { authorization: `Bearer ${agent().token}` }, signal: gone.signal });
  const waiting = Array.from({ length: POLLS_MAX + 1 }, () => poll());
  const first = await within("an answer", Promise.race(waiting));
  expect(await first.json()).toEqual({ type: "events", seq, events: [] });
  gone.abort();
  await Promise.allSettled(waiting);
});

test("events of another stream, or further back than is kept, are not made up", async () => {
  const { stream, seq } = snapshot.parse((await ask("GET", "/v1/node")).content);
  for (const query of ["stream=other&after=0", `stream=${stream}&after=${seq + 1}`, "", "stream=__proto__&after=-1&wait_ms=1e9"])
    expect((await ask("GET", `/v1/events?${query}`)).content).toEqual({ type: "behind" });
});

test("of 1,000 launches as many start as there are GPUs, and the rest find none free", async () => {
  const ids = Array.from({ length: 1_000 }, (_, at) => asId<"group">(`grp_${at}`));
  const launches = ids.map((group_id) => provider.launch({ group_id, model: "tiny", role: "both", engine: "tiny", gpus: 1 }));
  expect(await provider.renew()).toHaveLength(1);
  const outcomes = (await Promise.all(launches)).map((outcome) =>
    outcome.type === "refused" ? outcome.reason.split(":")[0] : outcome.type,
  );
  expect(outcomes.filter((outcome) => outcome === "launching")).toHaveLength(node.gpus);
  expect(outcomes.filter((outcome) => outcome === "no_free_gpu")).toHaveLength(1_000 - node.gpus);
  const { groups } = await state();
  expect(groups.map((group) => group.gpu_indices)).toEqual([[0], [1], [2], [3]]);
  await until("four engines", () => node.processes().length === node.gpus);
});

test("after all this the node is given back as if nothing had been", async () => {
  const [released] = await provider.release();
  expect(released?.released_at).toBeGreaterThan(released?.provisioned_at ?? 0n);
  expect(node.processes()).toEqual([]);
});
