/** What was logged: all of a run's lines, or all that a session still has, page by page. */
import type { z } from "zod";
import { logList, sessionLogList, type logLine, type sessionLogLine } from "../../schema/core/wire/http.ts";
import { read, request, type Connection } from "../connection.ts";

type Line = z.infer<typeof logLine> | z.infer<typeof sessionLogLine>;
export type Logs = { readonly lines: readonly Line[]; readonly dropped: number };

/** Page by page, up to the last line at the moment of asking: what goes on logging is not followed. */
export async function logs(connection: Connection, id: string): Promise<Logs> {
  const session = id.startsWith("ses_");
  const lines: Line[] = [];
  let through: number | undefined;
  for (;;) {
    const path = `/v1/${session ? "sessions" : "runs"}/${encodeURIComponent(id)}/logs?after=${lines.at(-1)?.seq ?? 0}`;
    const response = await request(connection, "GET", path);
    const page = session ? await read(response, sessionLogList) : await read(response, logList);
    lines.push(...page.lines);
    through ??= page.seq;
    if (page.lines.length === 0 || (lines.at(-1)?.seq ?? 0) >= through) return { lines, dropped: page.dropped };
  }
}
