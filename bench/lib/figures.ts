/**
 * What every bench writes with `--json FILE`: figures with units, the versions they were measured on, the rounds they are the
 * medians of. The tables in docs/benchmarks.md are made from such files (bench/tables.ts), never typed.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { dirname } from "node:path";

export type Figure = {
  readonly row: string;
  readonly column: string;
  readonly unit: string;
  /** One value a round. */
  readonly values: readonly number[];
  /** In place of values: what no number says. */
  readonly text?: string;
};
export type BenchFile = {
  readonly bench: string;
  readonly title: string;
  readonly command: string;
  readonly measured_at: string;
  readonly commit: string;
  readonly machine: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly rounds: number;
  readonly samples_per_round: string;
  readonly figures: readonly Figure[];
  readonly not_measured: readonly string[];
};

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** Nearest rank. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil((p / 100) * sorted.length) - 1))] ?? Number.NaN;
}

export function machine(): string {
  const all = cpus();
  return `${all.length} × ${all[0]?.model.trim() ?? "unknown processor"}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform}`;
}

export function commit(root: string): string {
  try {
    const id = execFileSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: root, encoding: "utf8" }).trim();
    const dirty = execFileSync("git", ["status", "--porcelain", "--untracked-files=no"], { cwd: root, encoding: "utf8" }).trim() !== "";
    return dirty ? `${id} with changes` : id;
  } catch {
    return "unknown";
  }
}

/** A row a row, a column a column; each cell the median over the rounds with its spread, if there were several. */
export function markdown(file: BenchFile): string {
  const columns = [...new Set(file.figures.map((figure) => figure.column))];
  const rows = [...new Set(file.figures.map((figure) => figure.row))];
  const cell = (row: string, column: string): string => {
    const figure = file.figures.find((one) => one.row === row && one.column === column);
    if (!figure) return "";
    if (figure.text !== undefined) return figure.text;
    const low = Math.min(...figure.values);
    const high = Math.max(...figure.values);
    const spread = figure.values.length === 1 ? "" : ` (${short(low)}–${short(high)})`;
    return `${short(median(figure.values))}${spread} ${figure.unit}`.trimEnd();
  };
  const rounds =
    file.rounds === 1
      ? file.samples_per_round
      : `${file.rounds} interleaved rounds of ${file.samples_per_round}; median (least–most) of the rounds`;
  return [
    `**${file.title}**`,
    "",
    `\`${file.command}\`, ${rounds}. ${file.machine}; ${Object.entries(file.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", ")}; commit ${file.commit}, ${file.measured_at.slice(0, 10)}.`,
    "",
    `| | ${columns.join(" | ")} |`,
    `|---|${columns.map(() => "---:|").join("")}`,
    ...rows.map((row) => `| ${row} | ${columns.map((column) => cell(row, column)).join(" | ")} |`),
    "",
    `Not measured: ${file.not_measured.join("; ")}.`,
  ].join("\n");
}

const short = (value: number): string =>
  Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);

export function writeFigures(path: string, file: BenchFile): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(file, null, 2)}\n`);
}

export function readFigures(path: string): BenchFile {
  return JSON.parse(readFileSync(path, "utf8")) as BenchFile;
}
