/** What an execution refuses, whoever carries the request to it: its object's own checks are not what it relies on. */
import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import { a, bindings } from "../testing.ts";
import { createExecution, type ExecutionOptions } from "./execution.ts";
import { memoryFor } from "./memory-scope.ts";
import { bad } from "./result.ts";

test("once it is over, every request of its guest is denied and does nothing", async () => {
  await runInDurableObject(bindings.MEMORY.getByName("engine"), async (_object, ctx) => {
    const identity = { tenant: a.tenant, project: a.project, function: "fn_over", function_name: "over", version: "ver_over" };
    const options = {
      ctx,
      env: bindings,
      host: { binding: "RUNS", id: ctx.id.toString() },
      identity: { ...identity, program: "run_over", run: "run_over", agent: "over", path_prefix: "", depth: 0, key: "key_over" },
      code: { hash: "none", config_hash: "none", load: async () => bad("internal", "There is no code.") },
      config: { timeout_ms: 60_000, egress: [], isolation: "version" },
      gateway: { call: () => Promise.reject(new Error("no call was to be made")), cancel() {} },
      sink: { append() {} },
      deadline_at_ms: Date.now() + 60_000,
    } as unknown as ExecutionOptions;
    const execution = createExecution(options);
    const set = (path: string) => execution.guest(`memory ${JSON.stringify({ op: "memory.set", path, key: path, value: 1 })}`);
    expect(JSON.parse(await set("before"))).toEqual({ ok: true, value: null });
    expect(await execution.run(null)).toMatchObject({ status: "failed" });

    const denied = { code: "capability_denied", detail: "The run is over." };
    expect(JSON.parse(await set("after"))).toMatchObject({ ok: false, error: denied });
    const chat = { op: "chat", path: "ai#1", body: { messages: [{ role: "user", content: "hi" }] } };
    const lines = await new Response(execution.guestStream(`ai ${JSON.stringify(chat)}`)).text();
    expect(JSON.parse(lines)).toMatchObject({ type: "error", error: denied });
    const kept = await memoryFor(bindings, options.identity).perform({ op: "memory.list", prefix: "", limit: 10 });
    expect(kept).toEqual({ ok: true, value: ["before"] });
  });
});
