/** `millrace chat`: a session in the terminal. Leaving keeps the session; `--session` goes on with it, from its first event. */
import { createInterface } from "node:readline";
import { createClient, type SessionItem } from "../../sdk/client/index.ts";
import type { Connection } from "../connection.ts";

export type ChatOptions = { readonly session?: string; readonly message?: string; readonly json?: boolean };

const LINES_WAITING_MAX = 1_000;

/** Answers with the exit code: 0, or 1 when the last turn failed. */
export async function chat(connection: Connection, name: string, options: ChatOptions): Promise<number> {
  const client = createClient(connection);
  // A session that does not exist is said at once, not only to whoever says something in it.
  if (options.session !== undefined) await client.session(options.session);
  const session = await client.connectSession(options.session === undefined ? { function: name } : { session: options.session });
  const say = (text: string) => process.stderr.write(text);
  if (!options.json) say(`session ${session.id}; go on with it later: millrace chat ${name} --session ${session.id}\n`);

  const input =
    options.message === undefined ? createInterface({ input: process.stdin, output: options.json ? undefined : process.stderr }) : null;
  const prompt = () => {
    if (!options.json) input?.prompt();
  };
  input?.setPrompt("> ");
  let failed = false;
  // One message at a time: a line typed or piped during a turn waits for its end, and piped input is left when the last is answered.
  const lines: string[] = [];
  let busy = false;
  let at_end = false;
  const proceed = (): void => {
    if (busy) return;
    const text = lines.shift();
    if (text === undefined) {
      if (at_end) session.close();
      return;
    }
    busy = true;
    session.send(text).catch((error: unknown) => {
      say(`${error instanceof Error ? error.message : String(error)}\n`);
      failed = true;
      busy = false;
      proceed();
    });
  };
  input?.on("line", (line) => {
    const text = line.trim();
    if (text === "") return prompt();
    if (lines.length < LINES_WAITING_MAX) lines.push(text);
    else say("too many lines are waiting; this one is dropped\n");
    proceed();
  });
  input?.on("close", () => {
    at_end = true;
    if (process.stdin.isTTY) session.close();
    else proceed();
  });
  input?.on("SIGINT", () => session.close());

  let mine: string | null = null;
  if (options.message === undefined) prompt();
  else mine = await session.send(options.message);
  const turns = new Set<string>();
  for await (const item of session) {
    if (options.json) process.stdout.write(`${JSON.stringify(item)}\n`);
    else show(item);
    if (item.type === "turn.started" && item.message === mine) turns.add(item.turn);
    const ended = item.type === "turn.done" || item.type === "error";
    if (!ended) continue;
    failed = item.type === "error";
    if (mine !== null && item.turn !== undefined && turns.has(item.turn)) session.close();
    if (mine !== null) continue;
    busy = false;
    proceed();
    if (!at_end) prompt();
  }
  input?.close();
  return failed ? 1 : 0;
}

let speaker: string | undefined;

function show(item: SessionItem): void {
  switch (item.type) {
    case "delta":
      if (item.agent !== speaker) process.stdout.write(`\n[${item.agent ?? "agent"}] `);
      speaker = item.agent;
      process.stdout.write(item.text);
      break;
    case "turn.done":
      speaker = undefined;
      process.stdout.write("\n");
      break;
    case "error":
      speaker = undefined;
      process.stdout.write(`\n${item.error.code}: ${item.error.detail ?? ""}\n`);
      break;
    case "truncated":
      process.stdout.write(`(the log before event ${item.before} is gone)\n`);
      break;
    case "message":
    case "turn.started":
    case "step":
    case "event":
    case "usage":
      break;
  }
}
