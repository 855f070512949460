import { expect, test } from "vitest";
import { asId } from "../../../schema/core/ids.ts";
import { micros } from "../../../schema/core/time.ts";
import type { GroupView } from "../policies.ts";
import { fixedSize } from "./fixed-size.ts";

const plan = fixedSize([
  { model: "m", role: "prefill", groups: 2 },
  { model: "m", role: "decode", groups: 1 },
]);
const group = (id: string, role: GroupView["role"], state: GroupView["state"], model = "m"): GroupView => ({
  group_id: asId<"group">(id),
  model,
  role,
  state,
});
const planned = (...groups: GroupView[]) => plan.plan(groups, [], micros(0));

test("what is missing is launched, once for each that is missing", () => {
  expect(planned()).toEqual([
    { type: "launch", model: "m", role: "prefill" },
    { type: "launch", model: "m", role: "prefill" },
    { type: "launch", model: "m", role: "decode" },
  ]);
});

test("launching counts as being there, stopping does not (I7)", () => {
  expect(planned(group("a", "prefill", "launching"), group("b", "prefill", "up"), group("c", "decode", "stopping"))).toEqual([
    { type: "launch", model: "m", role: "decode" },
  ]);
});

test("at the target nothing is done, and groups without a target are left alone", () => {
  const full = [group("a", "prefill", "up"), group("b", "prefill", "up"), group("c", "decode", "up")];
  expect(planned(...full, group("d", "both", "up"), group("e", "prefill", "up", "other"))).toEqual([]);
});

test("a surplus is drained, highest id first (I9); what is launching is not", () => {
  const stop = [{ type: "stop", group_id: "c", drain: true }];
  const decode = group("d", "decode", "up");
  expect(planned(group("c", "prefill", "up"), group("a", "prefill", "up"), group("b", "prefill", "up"), decode)).toEqual(stop);
  const launching = ["a", "b", "c"].map((id) => group(id, "prefill", "launching"));
  expect(planned(...launching, decode)).toEqual([]);
});
