/**
 * `npm run check` (and `npm test`): everything that CI runs, in order of cost, stopping at the first stage that fails.
 * Closes with the test runner's counts on a line of their own, which CI reads.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

type Stage = { readonly name: string; readonly command: readonly string[] };

const STAGES: readonly Stage[] = [
  { name: "format", command: ["oxfmt", "--check", "."] },
  { name: "lint", command: ["oxlint", "--type-aware", "--deny-warnings"] },
  { name: "types", command: ["tsc", "-b"] },
  { name: "unused", command: ["knip"] },
];

type Counts = { numPassedTests: number; numFailedTests: number; numPendingTests: number };

async function check(root: string): Promise<number> {
  const began_ms = Date.now();
  const results = mkdtempSync(join(tmpdir(), "millrace-check-"));
  const json = join(results, "vitest.json");
  try {
    for (const stage of [
      ...STAGES,
      { name: "tests", command: ["vitest", "run", "--reporter=default", "--reporter=json", `--outputFile.json=${json}`] },
    ]) {
      const stage_ms = Date.now();
      process.stdout.write(`\n── ${stage.name}: ${stage.command.slice(0, 2).join(" ")}\n`);
      const code = await run(root, stage.command);
      process.stdout.write(
        `── ${stage.name}: ${code === 0 ? "ok" : `failed (exit ${code})`} after ${((Date.now() - stage_ms) / 1_000).toFixed(1)} s\n`,
      );
      if (stage.name === "tests") closeWith(json);
      if (code !== 0) return 1;
    }
    process.stdout.write(`check: ok in ${((Date.now() - began_ms) / 1_000).toFixed(0)} s\n`);
    return 0;
  } finally {
    rmSync(results, { recursive: true, force: true });
  }
}

function run(root: string, command: readonly string[]): Promise<number> {
  const [name = "", ...args] = command;
  return new Promise((resolve) => {
    // `bootstrap.mjs` put node_modules/.bin first on the PATH.
    const child = spawn(name, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, CI: "true" } });
    child.on("error", (error) => {
      process.stdout.write(`${name}: ${error.message}\n`);
      resolve(127);
    });
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

function closeWith(json: string): void {
  try {
    const counts = JSON.parse(readFileSync(json, "utf8")) as Counts;
    process.stdout.write(`${counts.numPassedTests} passed, ${counts.numFailedTests} failed, ${counts.numPendingTests} skipped\n`);
  } catch {
    process.stdout.write("the test runner left no counts: it did not finish\n");
  }
}

process.exitCode = await check(join(import.meta.dirname, ".."));
