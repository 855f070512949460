/** Reads a trace of any known format; which one it is, is seen from the file, unless stated. */
import { azure } from "./azure.ts";
import { linesOf } from "./bytes.ts";
import { type LineFormat, type ReadOptions, readLines, type Skipped } from "./lines.ts";
import { METERED_BLOCK_TOKENS, METERED_FORMAT, metered } from "./metered.ts";
import { mooncake, MOONCAKE_BLOCK_TOKENS } from "./mooncake.ts";
import { readSessions } from "./sessions.ts";
import { OpenTrace, type Trace, TraceFault } from "./trace.ts";

export const TRACE_FORMATS = ["mooncake", "azure", "sessions", "millrace"] as const;
export type TraceFormat = (typeof TRACE_FORMATS)[number];

export type ReadTrace = { readonly trace: Trace; readonly format: TraceFormat; readonly skipped: Skipped };

export async function readTrace(file: string, format: TraceFormat | null, options: ReadOptions): Promise<ReadTrace> {
  const known = format ?? (await formatOf(file));
  if (known === "sessions") {
    const { trace, skipped } = await readSessions(file, options);
    if (trace.sessions.length === 0) throw new TraceFault(file, 0, "holds no sessions");
    return { trace, format: known, skipped };
  }
  const [lines, block_tokens] = lineFormat(known);
  const trace = new OpenTrace(block_tokens);
  const skipped = await readLines(file, lines, trace, options);
  if (trace.calls === 0)
    throw new TraceFault(file, 0, `holds no calls${options.from_ms > 0 || options.to_ms !== null ? " in that window" : ""}`);
  return { trace, format: known, skipped };
}

function lineFormat(format: Exclude<TraceFormat, "sessions">): readonly [LineFormat, block_tokens: number] {
  if (format === "mooncake") return [mooncake, MOONCAKE_BLOCK_TOKENS];
  return format === "azure" ? [azure(), 0] : [metered(), METERED_BLOCK_TOKENS];
}

async function formatOf(file: string): Promise<TraceFormat> {
  if (/\.(tar|tar\.gz|tgz|json|json\.gz)$/.test(file)) return "sessions";
  if (/\.csv(\.gz)?$/.test(file)) return "azure";
  for await (const { text } of linesOf(file)) {
    if (text !== null && text.trim() === "") continue;
    if (text?.includes(`"${METERED_FORMAT}"`)) return "millrace";
    if (text?.startsWith("{")) return "mooncake";
    if (text?.includes("ContextTokens")) return "azure";
    break;
  }
  throw new TraceFault(file, 0, `its format cannot be told from its name or first line; name it with --format ${TRACE_FORMATS.join("|")}`);
}
