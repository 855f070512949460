/** The door, in a checkout of its own whose npm and product are stand-ins that say what they were asked. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { thisProcess } from "./dev/lock.ts";

vi.setConfig({ testTimeout: 30_000 }); // a process or four each

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
  put(["package-lock.json"], { packages: lock });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const env = () => ({ ...process.env, npm_execpath: file("npm.cjs"), MILLRACE_STATE: "" });
function run(...args: string[]) {
  const child = spawn(process.execPath, [file("cli", "bootstrap.mjs"), ...args], { env: env(), stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return once(child, "close").then(([code]) => ({ code: code as number, text, npm: existsSync(file("npm-was-asked")) }));
}

const here = { os: [process.platform], cpu: [process.arch] };
const lock = {
  "": { name: "millrace" },
  "node_modules/a": { version: "1.0.0", integrity: "sha512-a" },
  "node_modules/here": { version: "1.0.0", integrity: "sha512-h", optional: true, ...here },
  "node_modules/there": { version: "1.0.0", integrity: "sha512-t", optional: true, os: ["plan9"], cpu: ["mips"] },
  "node_modules/libc": { version: "1.0.0", integrity: "sha512-l", optional: true, libc: ["musl"], ...here },
};
const installed = { "node_modules/a": lock["node_modules/a"], "node_modules/here": lock["node_modules/here"] };
const hidden = ["node_modules", ".package-lock.json"];

test("what npm was told by hand to install is recognised, once", async () => {
  put(hidden, { packages: installed });
  expect(await run("x")).toEqual({ code: 0, text: "up x\n", npm: false });
  rmSync(file(...hidden));
  expect(await run("y")).toEqual({ code: 0, text: "up y\n", npm: false });
});

test.each([
  ["nothing", null],
  ["another version", { ...installed, "node_modules/a": { version: "1.0.1", integrity: "sha512-a" } }],
  ["the same version with another content", { ...installed, "node_modules/a": { version: "1.0.0", integrity: "sha512-x" } }],
  ["not all", { "node_modules/here": installed["node_modules/here"] }],
  ["not what is for this machine", { "node_modules/a": installed["node_modules/a"] }],
  ["something else beside", { ...installed, "node_modules/b": { version: "1.0.0", integrity: "sha512-b" } }],
])("%s installed: npm ci, once", async (_, packages) => {
  if (packages) put(hidden, { packages });
  expect(await run("x")).toEqual({ code: 0, text: "millrace: installing what package-lock.json says (npm ci) …\nup x\n", npm: true });
  rmSync(file("npm-was-asked"));
  expect(await run("y")).toEqual({ code: 0, text: "up y\n", npm: false });
});

test("what is installed in this checkout is what its own lock file says", async () => {
  const checkout = join(import.meta.dirname, "..");
  put(["package-lock.json"], readFileSync(join(checkout, "package-lock.json"), "utf8"));
  put(hidden, readFileSync(join(checkout, ...hidden), "utf8"));
  expect(await run("x")).toMatchObject({ text: "up x\n", npm: false });
});

test.each([
  ["starts", ".millrace", "start.lock", (me: object) => me, []],
  ["runs", ".millrace", "run.json", (me: object) => ({ supervisor: me }), []],
  ["runs in the folder that is named", "elsewhere", "run.json", (me: object) => ({ supervisor: me }), ["--state"]],
] as const)("no npm ci under a product that %s", async (_, folder, name, content, flags) => {
  put([folder, name], content(thisProcess()));
  const args = ["x", ...flags.flatMap((flag) => [flag, file(folder)])];
  expect(await run(...args)).toEqual({
    code: 1,
    text: `millrace: npm ci is needed, and would take away the files of the Millrace that runs here (pid ${process.pid}); stop it, then run this again.\n`,
    npm: false,
  });
  // A pid that is another's by now is not it.
  put([folder, name], content({ ...thisProcess(), started: "long ago" }));
  expect(await run(...args)).toMatchObject({ code: 0, npm: true });
});

test("a signal sent to the door alone reaches what it runs, and its exit code comes back", async () => {
  put(hidden, { packages: installed });
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
