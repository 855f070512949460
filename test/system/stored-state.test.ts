/**
 * Stored runs and sessions of every format that was released open in this version: the product starts on a fixture's files (made by
 * test/fixtures/make-state.ts) and answers what it answered then; and the session goes on.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { request } from "../../cli/connection.ts";
import { deploySwarm } from "../../cli/dev/example.ts";
import { start } from "../../cli/dev/start.ts";
import { createClient } from "../../sdk/client/index.ts";

const root = join(import.meta.dirname, "..", "..");
const fixtures = join(root, "test", "fixtures");
const formats = readdirSync(fixtures).filter((name) => name.startsWith("state-"));
type Page = { events: { seq: number; type: string }[] };
type Expected = { run: { run: string }; logs: unknown; session: string; events: Page };

it.each(formats)("opens %s", async (format) => {
  const expected = JSON.parse(readFileSync(join(fixtures, format, "expected.json"), "utf8")) as Expected;
  const state = mkdtempSync(join(tmpdir(), "millrace-stored-"));
  cpSync(join(fixtures, format, "edge"), join(state, "edge"), { recursive: true });
  const running = await start({ root, state, edge_port: 0, gateway_port: 0, speed: 20, restart: false, say: () => {} });
  try {
    const connection = { url: running.edge_url, key: running.key };
    const read = async (path: string) => (await request(connection, "GET", path)).json();
    expect(await read(`/v1/runs/${expected.run.run}`)).toEqual(expected.run);
    expect(await read(`/v1/runs/${expected.run.run}/logs`)).toMatchObject(expected.logs as object);
    expect(await read(`/v1/sessions/${expected.session}/events?after=0`)).toEqual(expected.events);

    await deploySwarm(root, connection); // the database is new: its functions are not what is tested
    const last = expected.events.events.at(-1)?.seq ?? 0;
    const session = await createClient(connection).connectSession({ session: expected.session, resume_from: last });
    await session.send("And now?");
    const seen: number[] = [];
    let ended = "";
    for await (const item of session) {
      if (item.type === "truncated") continue;
      seen.push(item.seq);
      ended = item.type;
      if (ended === "turn.done" || ended === "error") break;
    }
    session.close();
    expect(ended).toBe("turn.done");
    expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => last + 1 + i));
  } finally {
    await running.stop();
    const note = join(state, "postgres", "postgres-home.txt");
    if (existsSync(note)) rmSync(readFileSync(note, "utf8").trim(), { recursive: true, force: true });
    rmSync(state, { recursive: true, force: true });
  }
});
