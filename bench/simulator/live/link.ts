/**
 * What a hop over loopback costs, measured while the live run is on, on an engine of its own, so that nothing that is compared is disturbed:
 * from sending a streamed request of PROMPT_TOKENS tokens to its headers, which the simulated engine sends as soon as it has read and understood
 * it. And, for comparison, the round trip of a request that asks for nothing, and how much later than its end a step is heard of.
 */
import { setTimeout as pause } from "node:timers/promises";
import { Pool } from "undici";
import { launchSimulated } from "../../../gpu-gateway/engines/simulated/launch.ts";
import { median } from "../../lib/figures.ts";

const PERIOD_MS = 200;
/** About the mean of the workload. */
const PROMPT_TOKENS = 1_000;
const WARM_UP = 20;

export type Link = { readonly request_ms: number; readonly nothing_ms: number; readonly timer_late_ms: number; readonly samples: number };

/** Begins to measure; what it returns ends that and says the medians. */
export async function measureLink(): Promise<() => Promise<Link>> {
  const engine = await launchSimulated({ speed: 1_000 });
  const pool = new Pool(engine.url, { connections: 1 });
  const requests: number[] = [];
  const nothings: number[] = [];
  const late: number[] = [];
  const asked = { to_stop: false };

  async function request(n: number): Promise<number> {
    const body = JSON.stringify({ prompt: `${n} words `.repeat(PROMPT_TOKENS).slice(0, 4 * PROMPT_TOKENS), max_tokens: 1, stream: true });
    const began = performance.now();
    const answer = await pool.request({ method: "POST", path: "/v1/completions", headers: { "content-type": "application/json" }, body });
    const took = performance.now() - began;
    await answer.body.dump();
    if (answer.statusCode !== 200) throw new Error(`the engine answered with ${answer.statusCode}`);
    return took;
  }
  async function nothing(): Promise<number> {
    const began = performance.now();
    const { body } = await pool.request({ method: "GET", path: "/version" });
    await body.dump();
    return performance.now() - began;
  }
  async function measure(): Promise<void> {
    for (let n = 0; n < WARM_UP; n++) await request(n);
    for (let n = WARM_UP; !asked.to_stop; n++) {
      const due = performance.now() + PERIOD_MS + (n % 10) / 10;
      // As the simulated engine waits for the end of a step: Node's timers are of whole milliseconds, and one that came too early waits again.
      while (performance.now() < due) await pause(due - performance.now());
      late.push(performance.now() - due);
      requests.push(await request(n));
      nothings.push(await nothing());
    }
  }

  const measuring = measure();
  return async () => {
    asked.to_stop = true;
    try {
      await measuring;
    } finally {
      await pool.close();
      await engine.stop();
    }
    return { request_ms: median(requests), nothing_ms: median(nothings), timer_late_ms: median(late), samples: requests.length };
  };
}
