import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadConfig, policyParameters } from "./config.ts";

const dir = mkdtempSync(path.join(os.tmpdir(), "millrace-config-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
function load(policies: unknown, more: object = {}) {
  const file = path.join(dir, "config.json");
  const base = {
    cell: "test",
    state_dir: "state",
    provider: { type: "local", node_id: "node-1", gpus: 1, engines: { sim: { kind: "simulated" } } },
    pools: [{ model: "m", role: "both", groups: 1, engine: "sim" }],
  };
  writeFileSync(file, JSON.stringify({ ...base, policies, ...more }));
  return loadConfig(file, { DATABASE_URL: "postgres://x", MILLRACE_CELL_SECRET: "s".repeat(32) });
}

test("policies are chosen by name, with their parameters", () => {
  const policies = { ordering: "vtc", routing: "local-aware", cache: "prefix-index", parameters: { at_once: true, seed: 4 } };
  expect(load(policies)).toMatchObject({ type: "ok", config: { policies } });
});

test("every fault of the block is told, each with its path", () => {
  const outcome = load({ ordering: "lifo", routing: "best", parameters: { ttft_ms_max: 0, service_weights: { prompt: 1 } }, surprise: 1 });
  if (outcome.type === "ok") throw new Error("taken");
  for (const part of ["policies.ordering", "policies.routing", "policies.parameters.ttft_ms_max", "service_weights.cached", "surprise"])
    expect(outcome.faults.join("\n")).toContain(part);
});

test("early rejection without an objective is a fault", () => {
  expect(load({ admission: "early-rejection" })).toEqual({
    type: "faults",
    faults: ["policies: admission: early-rejection needs an objective: set ttft_ms_max, tbt_ms_max or both"],
  });
  expect(load({ admission: "early-rejection", parameters: { ttft_ms_max: 2_000 } })).toMatchObject({ type: "ok" });
});

test("live, no prefix is fetched from a peer: no engine here can", () => {
  expect(policyParameters(undefined)).toMatchObject({ fetch_threshold: null, at_once: false });
});

test("decisions are recorded where the configuration says, beside it, or nowhere", () => {
  expect(load({}, { record_decisions: "decisions.jsonl" })).toMatchObject({
    config: { record_decisions: path.join(dir, "decisions.jsonl") },
  });
  expect(load({})).not.toHaveProperty("config.record_decisions");
});
