import { mkdtempSync, mkdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { resolveConnection } from "./connection.ts";
import { StateFolder } from "./dev/state.ts";
import { thisProcess } from "./dev/lock.ts";

const base = mkdtempSync(join(tmpdir(), "millrace-connection-"));
const state = join(base, "state");
const env = { MILLRACE_URL: "http://env", MILLRACE_KEY: "env-key", MILLRACE_STATE: state };
const edge = { url: "http://here/", process: thisProcess() };
beforeAll(() => {
  mkdirSync(state);
  const folder = new StateFolder(state);
  folder.writeRun({ supervisor: thisProcess(), edge, key_file: "", started_at: "", ready: true });
  folder.writeSecret("dev-key", "here-key");
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

test("flags come before the environment, and the environment before the product that runs", () => {
  expect(resolveConnection({ url: "http://flag", key: "flag-key", state }, env)).toEqual({ url: "http://flag", key: "flag-key" });
  expect(resolveConnection({ state }, env)).toEqual({ url: "http://here", key: "here-key" });
  expect(resolveConnection({}, env)).toEqual({ url: "http://env", key: "env-key" });
  expect(resolveConnection({}, { MILLRACE_STATE: state })).toEqual({ url: "http://here", key: "here-key" });
});

test("a folder without a product, and a key that cannot be read, are said with what to do", () => {
  expect(() => resolveConnection({ state: base }, {})).toThrow(
    /^no Millrace runs from .*; run `npm start`, name its folder with --state DIR, or /,
  );
  mkdirSync(join(base, "dev-key"));
  expect(() => resolveConnection({ state: base, url: "http://flag" }, {})).toThrow(
    /^the development key cannot be read \(EISDIR.*\); name a key with --key or MILLRACE_KEY, or another folder with --state DIR\.$/,
  );
});
