/** `millrace plan export`: our own metered calls as a trace (traces/metered.ts has the format), read from the books' database. */
import { createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import { METERED_FORMAT, METERED_VERSION } from "../../gpu-gateway/simulator/traces/metered.ts";
import { nanosFromMs } from "../../schema/core/time.ts";
import { exportCalls, type ExportQuery } from "../../schema/db/queries/reports/export-calls.ts";
import { UsageFault } from "../connection.ts";
import { StateFolder } from "../dev/state.ts";

export type ExportFlags = {
  readonly from: string;
  readonly to: string;
  readonly tenant?: string;
  readonly out?: string;
  readonly state?: string;
};

export async function exportCommand(flags: ExportFlags, env: NodeJS.ProcessEnv): Promise<number> {
  const url = env["DATABASE_URL"] ?? new StateFolder(flags.state ?? env["MILLRACE_STATE"] ?? ".millrace").readRun()?.postgres?.url;
  if (!url) throw new UsageFault("no database: run `npm start` in this folder, name its folder with --state, or set DATABASE_URL.");
  const query = { from: instant("--from", flags.from), to: instant("--to", flags.to), tenant: flags.tenant ?? null };
  if (query.from >= query.to) throw new UsageFault("--from is not before --to");
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10 });
  const tally = { calls: 0, without_sizes: 0 };
  try {
    const lines = Readable.from(linesOf(sql, query, flags, tally), { objectMode: true });
    if (flags.out === undefined) await pipeline(lines, process.stdout, { end: false });
    else await pipeline(lines, createWriteStream(flags.out));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // A reader that wants no more (`| head`) is no fault.
    if (code === "EPIPE") return 0;
    throw new UsageFault(
      flags.out !== undefined && code?.startsWith("E") ? `--out ${flags.out}: ${message}` : `the database cannot be read: ${message}`,
    );
  } finally {
    await sql.end({ timeout: 5 });
  }
  process.stderr.write(`millrace: ${tally.calls} calls exported`);
  process.stderr.write(
    tally.without_sizes > 0 ? `; ${tally.without_sizes} ended before their prompt was counted and are left out\n` : "\n",
  );
  return 0;
}

async function* linesOf(
  sql: postgres.Sql,
  query: ExportQuery,
  { from, to, tenant }: ExportFlags,
  tally: { calls: number; without_sizes: number },
): AsyncGenerator<string> {
  yield `${JSON.stringify({ format: METERED_FORMAT, version: METERED_VERSION, from, to, tenant: tenant ?? null })}\n`;
  for await (const rows of exportCalls(sql, query)) {
    let text = "";
    for (const row of rows) {
      if (row.prompt_tokens === "0") {
        tally.without_sizes++;
        continue;
      }
      tally.calls++;
      const call = {
        at_us: Number((BigInt(row.accepted_at_ns) - query.from) / 1_000n),
        prompt_tokens: Number(row.prompt_tokens),
        cached_tokens: Number(row.cached_tokens),
        completion_tokens: Number(row.completion_tokens),
        tenant: row.tenant,
        // Turns of one session go on from each other; runs are programs of their own.
        program: row.session ?? row.program,
        agent: row.agent,
        model: row.model,
        outcome: row.outcome,
      };
      text += `${JSON.stringify(call)}\n`;
    }
    if (text !== "") yield text;
  }
}

function instant(name: string, text: string): ExportQuery["from"] {
  const ms = Date.parse(text);
  if (Number.isNaN(ms) || ms < 0) throw new UsageFault(`${name} ${text}: an instant as RFC 3339 has it, as 2026-01-31T12:00:00Z`);
  return nanosFromMs(ms);
}
