/**
 * What the benches of this folder share: their options, and a table that fills cell by cell. A value noted twice for one cell is
 * another round of it: the table shows the median and the spread.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { commit, type Figure, machine, markdown, writeFigures } from "../lib/figures.ts";

const root = join(import.meta.dirname, "..", "..");

export type SheetWords = {
  readonly bench: string;
  readonly title: string;
  readonly command: string;
  /** What one cell is. */
  readonly samples: string;
  readonly not_measured: readonly string[];
};

export class Sheet {
  readonly #figures: { row: string; column: string; unit: string; values: number[]; text?: string }[] = [];

  note(row: string, column: string, value: number, unit = ""): void {
    const found = this.#figures.find((figure) => figure.row === row && figure.column === column);
    if (found === undefined) this.#figures.push({ row, column, unit, values: [value] });
    else found.values.push(value);
  }

  say(row: string, column: string, text: string): void {
    this.#figures.push({ row, column, unit: "", values: [], text });
  }

  values(row: string, column: string): readonly number[] {
    return this.#figures.find((figure) => figure.row === row && figure.column === column)?.values ?? [];
  }

  /** Prints it, and writes it where `--json` said. */
  finish(words: SheetWords, json: string | undefined): void {
    const figures: readonly Figure[] = this.#figures;
    const { samples, ...rest } = words;
    const file = {
      measured_at: new Date().toISOString(),
      commit: commit(root),
      machine: machine(),
      versions: { node: process.versions.node },
      rounds: 1,
      ...rest,
      samples_per_round: samples,
      figures,
    };
    process.stdout.write(`${markdown(file)}\n\n`);
    if (json !== undefined) writeFigures(json, file);
  }
}

/** `--json FILE`; `--smoke`: so small that it says nothing but which way things go; and what else a bench takes. */
export function optionsOf<const T extends readonly string[]>(
  ...more: T
): { json?: string; smoke: boolean } & { [K in T[number]]?: string } {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      smoke: { type: "boolean", default: false },
      ...Object.fromEntries(more.map((name) => [name, { type: "string" as const }])),
    },
  });
  return values as ReturnType<typeof optionsOf<T>>;
}

/** `x.json` and `part` are `x-part.json`. */
export const partOf = (json: string | undefined, part: string): string | undefined => json?.replace(/\.json$/, `-${part}.json`);

/** Where a run is, for who waits at a terminal. */
export function progress(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${what}`);
}
