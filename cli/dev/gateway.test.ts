import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { gatewayChild } from "./gateway.ts";
import { StateFolder } from "./state.ts";

const root = mkdtempSync(join(tmpdir(), "millrace-gateway-child-"));
afterEach(() => rmSync(root, { recursive: true, force: true }));

test("a gateway that serves on another port than was asked is not taken for ready", async () => {
  mkdirSync(join(root, "gpu-gateway"));
  writeFileSync(
    join(root, "gpu-gateway", "main.ts"),
    `console.log(JSON.stringify({ ready: true, url: "http://127.0.0.1:4711" })); setInterval(() => {}, 1_000);`,
  );
  const options = { root, state: new StateFolder(root), port: 4712, database_url: "", cell_secret: "", speed: 1, restart: false };
  const child = gatewayChild({ ...options, on_spawn: () => {}, on_death: () => {} });
  await expect(child.start()).rejects.toThrow(
    /^the gateway serves at http:\/\/127\.0\.0\.1:4711, not on port 4712 as .*gateway\.json said/,
  );
  await child.stop(1_000);
});
