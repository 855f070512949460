import { createHash } from "node:crypto";
import { beforeAll, describe, expect, it } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { choosePolicies, inFull } from "../../policy/catalogue.ts";
import { digested } from "../../policy/recording.ts";
import { runCluster } from "../cluster.ts";
import { call, clusterOf, pool, these } from "../testing.ts";
import { Replay, type Difference, type ReplayOutcome } from "./replay.ts";

const sha256 = () => {
  const hash = createHash("sha256");
  return { update: (text: string) => hash.update(text), hex: () => hash.copy().digest("hex") };
};
const replay = (lines: readonly (string | null)[], alter: string | null = null, unfinished = false): ReplayOutcome => {
  const made = new Replay({ alter, unfinished }, sha256);
  for (const line of lines) if (!made.take(line)) break;
  return made.outcome();
};
function replayed(lines: readonly string[], alter: string | null = null, unfinished = false) {
  const outcome = replay(lines, alter, unfinished);
  if (outcome.type !== "replayed") throw new Error(JSON.stringify(outcome));
  return outcome.result;
}

/** What a gateway would record of a burst of calls on two prefill and two decode instances. */
let recording: readonly string[];
beforeAll(() => {
  const cluster = clusterOf([pool("prefill", 2), pool("decode", 2)]);
  const targets = cluster.pools.map(({ model, role, instances }) => ({ model, role, groups: instances }));
  const policies = inFull({ ordering: "vtc", routing: "local-aware" }, { scope: "test/1", targets });
  const choice = choosePolicies(policies.names, policies);
  if (choice.type === "faults") throw new Error(choice.faults.join());
  const lines = [JSON.stringify({ format: "millrace-decisions", version: 1, policies })];
  const hash = sha256();
  const arrivals = Array.from({ length: 60 }, (_, n) =>
    call(`call-${n}`, 1_000 + n * 2_000, {
      prompt_tokens: 400 + 20 * n,
      output_tokens: n % 3 === 0 ? 5 : 60,
      tenant: asId<"tenant">(n % 3 === 0 ? "ten_a" : "ten_b"),
    }),
  );
  runCluster({
    cluster,
    clients: these(arrivals),
    seed: 1,
    policies: choice.config,
    observer: {
      event: (event, effects, at) => {
        lines.push(JSON.stringify({ at, event, effects }));
        hash.update(digested(JSON.stringify(effects)));
      },
    },
  });
  recording = [...lines, JSON.stringify({ end: "stopped", events: lines.length - 1, digest: hash.hex() })];
});

describe("a replay", () => {
  it("decides the same in the same order", () => {
    const result = replayed(recording);
    expect(result.difference).toBeNull();
    expect(result.replayed).toBe(result.footer?.digest);
    expect(result.events).toBeGreaterThan(300);
  });

  it.each([
    "deferred_pulls_max=1",
    "kv_lease_margin=4000000",
    "elasticity_period=4999999",
    "service_weights.prompt=0",
    "routing=random",
    "ordering=fcfs",
  ])("decides otherwise with one constant altered: %s", (change) => {
    const result = replayed(recording, change);
    expect(result.replayed).not.toBe(result.recorded);
    const { line, nth, decision, replayed: said } = result.difference as Difference;
    expect(line).toBe(nth + 1);
    expect(recording[line - 1]).toBe(JSON.stringify(decision));
    expect(said).not.toBe(JSON.stringify(decision.effects));
  });

  it("decides the same with a constant altered that nothing depended on", () => {
    const result = replayed(recording, "launch_bound=700000000");
    expect(result.difference).toBeNull();
  });

  it.each([
    ["deferred_pulls", "NAME=VALUE"],
    ["deferred_pulls=1", "deferred_pulls_max"],
    ["deferred_pulls_max=many", "another kind"],
    ["deferred_pulls_max=0", "positive"],
    ["routing=best", "best"],
  ])("says what is wrong with an alteration: %s", (change, words) => {
    expect(replay(recording, change)).toMatchObject({ type: "unusable", fault: expect.stringContaining(words) as string });
  });
});

describe("a recording that is not as it should be", () => {
  const with_line = (index: number, text: string | null) => recording.with(index, text as string);

  it("names the line and what is wrong with it", () => {
    expect(replay([])).toMatchObject({ type: "malformed", line: 1 });
    expect(replay(with_line(0, "{}"))).toMatchObject({ type: "malformed", line: 1 });
    expect(replay(with_line(4, "{"))).toMatchObject({ type: "malformed", line: 5, what: expect.stringContaining("JSON") as string });
    expect(replay(with_line(4, null))).toMatchObject({ type: "malformed", line: 5 });
    expect(replay(with_line(4, '{"at":1,"event":{"type":"surprise"},"effects":[]}'))).toMatchObject({
      line: 5,
      what: expect.stringContaining("event.type") as string,
    });
    expect(replay(with_line(40, '{"at":0,"event":{"type":"timer"},"effects":[]}'))).toMatchObject({ type: "malformed", line: 41 });
    const version = (recording[0] ?? "").replace('"version":1', '"version":2');
    expect(replay(with_line(0, version))).toMatchObject({ line: 1, what: expect.stringContaining("version 2") as string });
  });

  it("is found by its digest when effects were changed, by its count when lines are gone", () => {
    const at = recording.findIndex((line) => line.includes('"start_leg"'));
    const changed = with_line(at, (recording[at] ?? "").replace('"attempt":0', '"attempt":1'));
    expect(replay(changed)).toMatchObject({ type: "malformed", line: recording.length, what: expect.stringContaining("digest") as string });
    expect(replay(recording.toSpliced(50, 1))).toMatchObject({ type: "malformed", line: recording.length - 1 });
    expect(replay([...recording, "{}"])).toMatchObject({ type: "malformed", line: recording.length + 1 });
  });

  it("may be cut off only where that is said", () => {
    const cut = [...recording.slice(0, 100), (recording[100] ?? "").slice(0, 30)];
    expect(replay(recording.slice(0, 100))).toMatchObject({
      type: "malformed",
      line: 101,
      what: expect.stringContaining("--unfinished") as string,
    });
    expect(replay(cut)).toMatchObject({ type: "malformed", line: 101 });
    expect(replayed(cut, null, true)).toMatchObject({ events: 99, difference: null, footer: null });
    expect(replay([...cut, recording[101] ?? ""], null, true)).toMatchObject({ type: "malformed", line: 101 });
  });
});
