import { expect, test } from "vitest";
import * as live from "../runtime/limits.ts";
import * as meter from "../runtime/meter.ts";
import * as ours from "./limits.ts";

test("virtual time keeps the live gateway's pace and limits", () => {
  const all: Readonly<Record<string, unknown>> = { ...live, ...meter };
  for (const [name, value] of Object.entries(ours)) expect([name, all[name]]).toEqual([name, value]);
});
