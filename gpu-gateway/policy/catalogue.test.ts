import { expect, test } from "vitest";
import { choosePolicies } from "./catalogue.ts";

const OPTIONS = { scope: "cell_a/1", targets: [] };

test("an unknown policy or question is refused with what there is; all faults at once", () => {
  const choice = choosePolicies({ routing: "round-robin", ordering: "lifo", colour: "red" } as Record<string, string>, OPTIONS);
  expect(choice).toEqual({
    type: "faults",
    faults: [
      'routing: there is no policy "round-robin"; choose least-load, conductor, local-aware, load-balance, random',
      'ordering: there is no policy "lifo"; choose fcfs, vtc',
      'there is no policy question "colour"; there are admission, ordering, routing, cache, elasticity, allocation',
    ],
  });
});

test("parameters that make no sense are refused", () => {
  const choice = choosePolicies(
    { admission: "early-rejection" },
    { ...OPTIONS, parameters: { fetch_threshold: 0.5, service_weights: { prompt: -1, cached: 0.5, output: 2 } } },
  );
  expect(choice).toEqual({
    type: "faults",
    faults: [
      "admission: early-rejection needs an objective: set ttft_ms_max, tbt_ms_max or both",
      "service_weights.prompt: -1 is not a whole number from 0",
      "service_weights.cached: 0.5 is not a whole number from 0",
      "fetch_threshold: 0.5 is not 1 or more",
    ],
  });
});

test("what is not named is the default; the baseline estimates nothing", () => {
  const choice = choosePolicies({ ordering: undefined }, OPTIONS);
  expect(choice).toMatchObject({ type: "ok" });
  expect(choice.type === "ok" && choice.config.estimates).toBe(undefined);
});

test("a routing that predicts learns times, unless they are given", () => {
  const learned = choosePolicies({ routing: "conductor" }, OPTIONS);
  expect(learned).toMatchObject({ config: { estimates: { prefilled: expect.any(Function) } } });
});
