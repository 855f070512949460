/** The keeper of a process that stood still: its timers are late, so the clock decides. */
import { afterEach, expect, test } from "vitest";
import { until } from "../../test/support/until.ts";
import { LeaseKeeper } from "./lease.ts";

let keeper: LeaseKeeper | null = null;
afterEach(() => keeper?.stop());

function kept(acquired_ms: number, lease_ms = 600) {
  const asked = { cell: 0, nodes: 0 };
  const fenced: string[] = [];
  keeper = new LeaseKeeper({
    store: {
      renew() {
        asked.cell += 1;
        return Promise.resolve("renewed");
      },
    },
    lease_ms,
    acquired_ms,
    renewNodes() {
      asked.nodes += 1;
      return Promise.resolve();
    },
    on_fenced: (reason) => void fenced.push(reason),
    log: () => undefined,
  });
  return { keeper, asked, fenced };
}

test("a lease that is over is known without a timer, once, and renews nothing, neither cell nor nodes", () => {
  const { keeper: late, asked, fenced } = kept(performance.now() - 3_600_000);
  expect(late.holds()).toBe(false);
  expect(late.holds()).toBe(false);
  expect(fenced).toEqual([expect.stringMatching(/renewed in time/)]);
  expect(asked).toEqual({ cell: 0, nodes: 0 });
});

test("timers that are due together, the renewal first: it finds the lease over", async () => {
  // The loop stands still until both are due.
  const { asked, fenced } = kept(performance.now());
  const until_ms = performance.now() + 600;
  while (performance.now() < until_ms);
  await until("the end", () => fenced.length > 0);
  expect(asked).toEqual({ cell: 0, nodes: 0 });
});

test("a lease that is renewed is held from when it was asked for", async () => {
  const { keeper: alive, asked, fenced } = kept(performance.now(), 1_000);
  await until("two terms of renewals", () => asked.cell >= 8);
  expect(alive.holds()).toBe(true);
  expect(fenced).toEqual([]);
  expect(asked.nodes).toBeGreaterThan(0);
});
