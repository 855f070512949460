import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { folderBreaches, importBreaches, importsOf, purityBreaches, type SourceFile } from "./layout.ts";

const root = join(import.meta.dirname, "..", "..");
const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((path) => path && existsSync(join(root, path)));
const sources: SourceFile[] = tracked
  .filter((path) => path.endsWith(".ts"))
  .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));

describe("the layout", () => {
  it("has imports that point one way", () => {
    expect(sources.length).toBeGreaterThan(50);
    expect(importBreaches(sources)).toEqual([]);
  });

  it("keeps clocks, randomness, sockets and promises out of the pure rooms (D1)", () => {
    expect(purityBreaches(sources)).toEqual([]);
  });

  it("has no top-level folder that docs/architecture.md does not explain", () => {
    const folders = [...new Set(tracked.filter((path) => path.includes("/")).map((path) => path.split("/")[0] ?? ""))].filter(
      (folder) => !folder.startsWith("."),
    );
    expect(folderBreaches(folders, readFileSync(join(root, "docs/architecture.md"), "utf8"))).toEqual([]);
  });
});

describe("the layout checks can fail", () => {
  const planted = (path: string, text: string): SourceFile[] => [{ path, text }];

  it.each([
    ["gpu-gateway/policy/x.ts", 'import { a } from "../runtime/a.ts";'],
    ["gpu-gateway/policy/x.ts", 'export * from "../../schema/db/tables.ts";'],
    ["edge/x.ts", 'import type { A } from "../gpu-gateway/policy/vocabulary.ts";'],
    ["gpu-gateway/engines/x.ts", 'const a = await import("../server/http.ts");'],
    ["schema/core/x.ts", 'import "../db/queries/a.ts";'],
    ["schema/db/x.ts", 'import { createClient } from "millrace/client";'],
    ["gpu-gateway/engines/x.ts", "const a = import(`../runtime/clock.ts`);"],
    ["gpu-gateway/engines/x.ts", 'const a = new URL("../runtime/clock.ts", import.meta.url);'],
    ["gpu-gateway/runtime/x.ts", 'import { w } from "./meter.test-support.ts";'],
  ])("sees a wrong import in %s: %s", (path, text) => expect(importBreaches(planted(path, text))).toHaveLength(1));

  it.each([
    "const now = Date.now();",
    "const now = new Date();",
    "const r = Math.random();",
    'const r = Math["random"]();',
    "const M = Math; M.random();",
    "const { random } = Math;",
    'const t = (() => {}).constructor("return Date.now()")();',
    "global.setTimeout(f);",
    'const fs = require("fs");',
    "export async function f() {}",
    "const p = Promise.resolve();",
    "setTimeout(f, 1);",
    'import { connect } from "node:net";',
    'import postgres from "postgres";',
    'const net = import("./x.ts");',
    "performance.now();",
    "globalThis.fetch();",
  ])("sees that policy reaches the world: %s", (text) => expect(purityBreaches(planted("gpu-gateway/policy/x.ts", text))).toHaveLength(1));

  it("does not take words in comments and strings for code", () => {
    const text = '/* Date.now() */ // Promise\nexport const a = "fetch Date Promise";';
    expect(purityBreaches(planted("gpu-gateway/policy/x.ts", text))).toEqual([]);
  });

  it("sees every form of import", () => {
    expect(importsOf('import a from "./a";\nexport { b } from "./b";\nimport "./c";\nimport("./d");\n// import "./e"')).toEqual([
      "./a",
      "./b",
      "./c",
      "./d",
    ]);
  });

  it("sees an unexplained folder", () =>
    expect(folderBreaches(["edge", "misc"], "`edge/` is …")).toEqual([{ path: "misc", what: expect.any(String) }]));
});
