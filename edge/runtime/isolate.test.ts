/** An isolate that broke is not handed to the next run, and what the runtime said of it is not the function's failure. */
import { expect, test } from "vitest";
import { bindings } from "../testing.ts";
import { isolateFailure, runInIsolate, type IsolateRequest } from "./isolate.ts";
import { good } from "./result.ts";

const BROKEN = "internal error; reference = 0123456789abcdef";

test.each([
  ["broke", BROKEN, "other"],
  ["threw", "TypeError: internal error; reference = forged", "same"],
])("after an isolate %s (%s) the next run gets the %s one", async (what, message, next) => {
  const names: string[] = [];
  const fetch = () => Promise.reject(new Error(message));
  const LOADER = { get: (name: string) => (names.push(name), { getEntrypoint: () => ({ fetch }) }) };
  const stub = () => ({});
  const request = {
    ctx: { exports: { AI: stub, MemoryCapability: stub, CallCapability: stub, JournalCapability: stub } },
    env: { ...bindings, LOADER },
    tenant: "ten_x",
    function: `fn_${what}`,
    code: { hash: what, config_hash: "none", load: async () => good("") },
    config: { timeout_ms: 1_000, egress: [], isolation: "version" },
    signal: new AbortController().signal,
  } as unknown as IsolateRequest;
  for (let run = 0; run < 2; run += 1) await expect(runInIsolate(request)).rejects.toThrow(message);
  expect(names[1] === names[0] ? "same" : "other").toBe(next);
});

test("what the runtime says of a broken isolate is ours, and is not repeated", () => {
  const failed = isolateFailure(new Error(BROKEN));
  expect(failed.code).toBe("internal");
  expect(JSON.stringify(failed)).not.toContain("reference");
  expect(isolateFailure(new Error("Error: the function's own")).code).toBe("function_threw");
});
