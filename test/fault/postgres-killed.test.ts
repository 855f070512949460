/** SIGKILL of Postgres: it comes back where it was, calls work again, and the books add up. */
import { expect, it } from "vitest";
import { StateFolder } from "../../cli/dev/state.ts";
import { invoke } from "../../cli/commands/invoke.ts";
import { connection, product, settledUsage } from "../support/product.ts";
import { until } from "../support/until.ts";

const pid = () => new StateFolder(product().state).readRun()?.postgres?.pid;

it("starts Postgres again when it is killed", async () => {
  const before = pid();
  if (before === undefined) throw new Error("no Postgres of ours");
  process.kill(before, "SIGKILL");
  await until("another Postgres", () => pid() !== undefined && pid() !== before, 30_000);
  const served = async () => {
    const run = await invoke(connection(), "swarm", { question: "Is the mill pond still there?" }, {}).catch(() => null);
    return run?.status === "done";
  };
  await until("a run that is done", served, 60_000);
  await until(
    "books that are settled",
    async () => (await settledUsage("function").catch(() => null))?.reconciliation.difference_gpu_ns === "0",
    30_000,
  );
  expect((await settledUsage("function")).reconciliation.difference_gpu_ns).toBe("0");
});
