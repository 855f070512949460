/**
 * The vLLM adapter against simulated instances, and against a real pair where MILLRACE_VLLM_PREFILL_URL and
 * MILLRACE_VLLM_DECODE_URL name one.
 */
import { describe, test } from "vitest";
import { describeEngine } from "../../ports/engine.conformance.ts";
import type { EngineRig, SeenRequest, Side, SideStats } from "../../ports/engine.conformance.ts";
import { launchSimulated } from "../simulated/launch.ts";
import type { Launched } from "../simulated/launch.ts";
import { createVllmEngine } from "./engine.ts";

const SPEED = 20; // ~1 ms a token

describeEngine("vllm adapter, simulated pair", async () => {
  const launch = (role: Side) => launchSimulated({ role, speed: SPEED, sim_control: true });
  const processes: Record<Side, Launched> = { prefill: await launch("prefill"), decode: await launch("decode") };
  const adapt = (side: Side) => createVllmEngine({ url: processes[side].url });
  const engines = { prefill: adapt("prefill"), decode: adapt("decode") };
  const ask = async (side: Side, method: string, path: string, body?: object) => {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    const response = await fetch(processes[side].url + path, init);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as SideStats & { recent: SeenRequest[] };
  };
  return {
    model: "llama-3-8b",
    get prefill() {
      return engines.prefill;
    },
    get decode() {
      return engines.decode;
    },
    async fault(side, fault) {
      if (Object.keys(fault).length === 0) await ask(side, "DELETE", "/sim/faults");
      else await ask(side, "POST", "/sim/faults", fault);
    },
    stats: (side) => ask(side, "GET", "/sim/stats"),
    seen: async (side) => (await ask(side, "GET", "/sim/stats")).recent,
    async kill(side) {
      await processes[side].stop("SIGKILL");
      processes[side] = await launch(side);
      engines[side] = adapt(side);
    },
    async close() {
      for (const side of ["prefill", "decode"] as const) {
        engines[side].close();
        await processes[side].stop();
      }
    },
  } satisfies EngineRig;
});

const { MILLRACE_VLLM_PREFILL_URL: prefill_url, MILLRACE_VLLM_DECODE_URL: decode_url } = process.env;
if (decode_url === undefined) {
  describe("engine: real vLLM", () => test.skip("MILLRACE_VLLM_DECODE_URL names none", () => {}));
} else {
  describeEngine("vllm adapter, real vLLM", async () => {
    const decode = createVllmEngine({ url: decode_url });
    const prefill = prefill_url === undefined ? null : createVllmEngine({ url: prefill_url });
    const [model] = (await decode.probe()).models;
    return {
      model: model?.id ?? "",
      prefill,
      decode,
      async close() {
        decode.close();
        prefill?.close();
      },
    };
  });
}
