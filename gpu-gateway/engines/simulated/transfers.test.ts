import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Transfers } from "./transfers.ts";

const party = (engine_id: string, gpus = 1) => ({ engine_id, gpus });
const BYTES = 3e9; // 10 ms alone, after 1 ms of handshake

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("an instance's KV transfers", () => {
  const made = () =>
    new Transfers(
      () => performance.now() * 1_000,
      (model_us) => model_us / 1_000,
    );
  const endsOf = (transfers: readonly Promise<string>[]) => {
    const began = performance.now();
    return Promise.all(transfers.map((each) => each.then((outcome) => [outcome, Math.round(performance.now() - began)])));
  };

  test("one alone, two into one instance, and two of wider instances", async () => {
    const run = async (count: number, gpus: number) => {
      const transfers = made();
      const ends = endsOf(Array.from({ length: count }, (_, i) => transfers.begin(`t${i}`, party(`p${i}`, gpus), party("d", gpus), BYTES)));
      await vi.advanceTimersByTimeAsync(100);
      return await ends;
    };
    expect(await run(1, 1)).toEqual([["over", 11]]);
    expect(await run(2, 1)).toEqual([
      ["over", 21],
      ["over", 21],
    ]);
    expect(await run(2, 2)).toEqual([
      ["over", 11],
      ["over", 11],
    ]);
  });
  test("a cancelled one ends at once, and the other has the link", async () => {
    const transfers = made();
    const ends = endsOf(["a", "b"].map((id) => transfers.begin(id, party(id), party("d"), BYTES)));
    await vi.advanceTimersByTimeAsync(11); // each has half of its bytes
    transfers.cancel("a");
    await vi.advanceTimersByTimeAsync(100);
    expect(await ends).toEqual([
      ["cancelled", 11],
      ["over", 16],
    ]);
    expect(await transfers.over("b")).toBe("over");
  });
  test("an id in use is refused; closing cancels", async () => {
    const transfers = made();
    const first = transfers.begin("a", party("p"), party("d"), BYTES);
    expect(await transfers.begin("a", party("p"), party("d"), BYTES)).toBe("refused");
    transfers.close();
    expect(await first).toBe("cancelled");
  });
});
