/** How commands print: a table or plain words for people, one JSON document (or one a line, for streams) for scripts. */
export type Column = { readonly title: string; readonly right?: boolean };

export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, i) => Math.max(column.title.length, ...rows.map((row) => (row[i] ?? "").length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (columns[i]?.right ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(columns.map((column) => column.title)), line(widths.map((width) => "─".repeat(width))), ...rows.map(line)].join("\n");
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

export function printLine(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Thousands apart, for whole numbers given as text. */
export function grouped(integer: string): string {
  return integer.replace(/\B(?=(\d{3})+$)/g, ",");
}
