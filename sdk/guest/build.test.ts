import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

test("the modules that isolates receive are built from these sources", () => {
  const check = () =>
    execFileSync(process.execPath, ["--no-warnings", join(import.meta.dirname, "build.mjs"), "--check"], { stdio: "pipe" });
  expect(check).not.toThrow();
});
