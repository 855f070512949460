/**
 * Writes the tables of docs/benchmarks.md from the figures in docs/benchmarks/*.json: between `<!-- table: NAME -->` and
 * `<!-- end -->`. `node bench/tables.ts` writes, `--check` only says whether the page is up to date.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { markdown, readFigures } from "./lib/figures.ts";

const docs = join(import.meta.dirname, "..", "docs");
const page = join(docs, "benchmarks.md");

export function withTables(text: string): string {
  return text.replace(/(<!-- table: ([a-z-]+) -->\n)[\s\S]*?(<!-- end -->)/g, (_, open: string, name: string, close: string) => {
    const file = join(docs, "benchmarks", `${name}.json`);
    return `${open}${existsSync(file) ? markdown(readFigures(file)) : "(not measured yet)"}\n${close}`;
  });
}

if (import.meta.main) {
  const before = readFileSync(page, "utf8");
  const after = withTables(before);
  if (process.argv.includes("--check")) {
    if (before !== after) process.stderr.write("docs/benchmarks.md is out of date: node bench/tables.ts\n");
    process.exitCode = before === after ? 0 : 1;
  } else writeFileSync(page, after);
}
