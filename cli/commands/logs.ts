/** What was logged: all of a run's lines, or all that a session still has, page by page. */
import type { z } from "zod";
import { logList, sessionLogList, type logLine, type sessionLogLine } from "../../schema/core/wire/http.ts";
import { read, request, type Connection } from "../connection.ts";

type Line = z.infer<typeof logLine> | z.infer<typeof sessionLogLine>;
export type Logs = { readonly lines: readonly Line[]; readonly dropped: number };

export async function logs(connection: Connection, id: string): Promise<Logs> {
  if (id.startsWith("ses_")) return sessionLogs(connection, id);
  return read(await request(connection, "GET", `/v1/runs/${encodeURIComponent(id)}/logs`), logList);
}

/** Up to the last line at the moment of asking: a session that goes on logging is not followed. */
async function sessionLogs(connection: Connection, session: string): Promise<Logs> {
  const lines: Line[] = [];
  let through: number | undefined;
  for (;;) {
    const path = `/v1/sessions/${encodeURIComponent(session)}/logs?after=${lines.at(-1)?.seq ?? 0}`;
    const page = await read(await request(connection, "GET", path), sessionLogList);
    lines.push(...page.lines);
    through ??= page.seq;
    if (page.lines.length === 0 || (lines.at(-1)?.seq ?? 0) >= through) return { lines, dropped: page.dropped };
  }
}
