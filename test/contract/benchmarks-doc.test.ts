import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { withTables } from "../../bench/tables.ts";

it("docs/benchmarks.md holds the tables that its figures make (node bench/tables.ts)", () => {
  const text = readFileSync(join(import.meta.dirname, "..", "..", "docs", "benchmarks.md"), "utf8");
  expect(withTables(text)).toBe(text);
});
