/** The door, in a checkout of its own whose npm and product are stand-ins that say what they were asked. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let root: string;
const file = (...name: string[]) => join(root, ...name);
const put = (name: string[], value: unknown) => writeFileSync(file(...name), typeof value === "string" ? value : JSON.stringify(value));

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "millrace-bootstrap-"));
  for (const folder of ["cli", "node_modules", ".millrace", "elsewhere"]) mkdirSync(file(folder));
  copyFileSync(join(import.meta.dirname, "bootstrap.mjs"), file("cli", "bootstrap.mjs"));
  put(["package.json"], { type: "module" });
  put(
    ["cli", "main.ts"],
    `process.on("SIGINT", () => { console.log("interrupted"); process.exit(7); }); console.log("up", ...process.argv.slice(2)); if (process.argv[2] === "wait") setInterval(() => {}, 1_000);`,
  );
  put(["npm.cjs"], `require("fs").writeFileSync(${JSON.stringify(file("npm-was-asked"))}, process.argv.slice(2).join(" "));`);
  put(["package-lock.json"], {});
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const env = () => ({ ...process.env, npm_execpath: file("npm.cjs"), MILLRACE_STATE: "" });
test("a signal sent to the door alone reaches what it runs, and its exit code comes back", async () => {
  put(
    ["node_modules", ".millrace-lock"],
    createHash("sha256")
      .update(readFileSync(file("package-lock.json")))
      .digest("hex"),
  );
  for (const [signal, expected] of [
    ["SIGINT", 7],
    ["SIGTERM", 1],
  ] as const) {
    const child = spawn(process.execPath, [file("cli", "bootstrap.mjs"), "wait"], { env: env(), stdio: ["ignore", "pipe", "ignore"] });
    await once(child.stdout, "data");
    child.kill(signal);
    expect(await once(child, "exit")).toEqual([expected, null]);
  }
  expect(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })).not.toContain(root);
});
