/** What is kept at its limits can be read: page by page, each of which an RPC can carry. */
import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";
import { LOG_TEXT_CHARS_MAX } from "../../schema/core/wire/guest.ts";
import { logList, sessionLogList, sessionPage } from "../../schema/core/wire/http.ts";
import { LOG_LINES_MAX } from "../../schema/core/wire/limits.ts";
import { utf8Bytes } from "../runtime/utf8.ts";
import { a, bindings, deploy, events, invoke, request, type RunBody } from "../testing.ts";
import { LINES_PAGE_MAX, PAGE_BYTES_MAX, pageOf } from "./page.ts";
import { SESSION_EVENT_BYTES_MAX } from "./session-limits.ts";

/** Beside an event's text: its number, time and type. */
const AROUND_BYTES = 200;
const LARGE_EVENTS = 40;

/** Every page to the end; how many bytes the largest was. */
async function readAll<Page>(path: string, parse: (json: unknown) => Page, itemsOf: (page: Page) => readonly { seq: number }[]) {
  const seqs: number[] = [];
  let largest_bytes = 0;
  for (;;) {
    const answer = await request("GET", `${path}?after=${seqs.at(-1) ?? 0}`, { key: a.all });
    expect(answer.status).toBe(200);
    const text = await answer.text();
    largest_bytes = Math.max(largest_bytes, utf8Bytes(text));
    const items = itemsOf(parse(JSON.parse(text)));
    if (items.length === 0) return { seqs, largest_bytes };
    seqs.push(...items.map((item) => item.seq));
  }
}
const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1);
const NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)";

test("a page has one row at least, and reads no further than its bound", () => {
  const read: number[] = [];
  const rows = function* () {
    for (const bytes of [PAGE_BYTES_MAX - 1, 1, 1, 1]) {
      read.push(bytes);
      yield bytes;
    }
  };
  expect(pageOf(rows(), (bytes) => bytes)).toEqual([PAGE_BYTES_MAX - 1, 1]);
  expect(read).toHaveLength(3);
  expect(pageOf([PAGE_BYTES_MAX + 1, 1], (bytes) => bytes)).toEqual([PAGE_BYTES_MAX + 1]);
});

test("a run's log of as many and as long lines as there may be", async () => {
  await deploy("paged", "() => 1");
  const { run } = (await (await invoke("paged")).json()) as RunBody;
  await runInDurableObject(bindings.RUNS.getByName(run), (_object, { storage }) => {
    const text = "漢".repeat(LOG_TEXT_CHARS_MAX);
    storage.sql.exec(`${NUMBERS} INSERT INTO logs (at_ms, level, text) SELECT 1, 'info', ? FROM n`, LOG_LINES_MAX, text);
  });
  const { seqs, largest_bytes } = await readAll(
    `/v1/runs/${run}/logs`,
    (json) => logList.parse(json),
    (page) => page.lines,
  );
  expect(seqs).toEqual(upTo(LOG_LINES_MAX));
  expect(largest_bytes).toBeLessThan(PAGE_BYTES_MAX + LINES_PAGE_MAX * AROUND_BYTES);
  expect((await request("GET", `/v1/runs/${run}/logs?after=-1`, { key: a.all })).status).toBe(400);
});

test("a run's events as large as they may be, as a stream", async () => {
  await deploy("streamed", "() => 1");
  const { run } = (await (await invoke("streamed")).json()) as RunBody;
  await runInDurableObject(bindings.RUNS.getByName(run), (_object, { storage }) => {
    const body = JSON.stringify({ type: "event", name: "large", data: "x".repeat(SESSION_EVENT_BYTES_MAX - AROUND_BYTES) });
    storage.sql.exec("UPDATE events SET seq = seq + ? WHERE type = 'run.done'", LARGE_EVENTS);
    storage.sql.exec(`${NUMBERS} INSERT INTO events (seq, type, body) SELECT i + 1, 'event', ? FROM n`, LARGE_EVENTS, body);
  });
  const all = await events(await request("GET", `/v1/runs/${run}/events`, { key: a.all }));
  expect(all.map((event) => event.id)).toEqual(upTo(LARGE_EVENTS + 2));
});

test("a session's events and lines as large as they may be", async () => {
  await deploy("spoke", "() => 1");
  const answer = await request("POST", "/v1/sessions", { key: a.all, body: { function: "spoke" } });
  const { session } = await answer.json<{ session: string }>();
  await runInDurableObject(bindings.SESSIONS.getByName(`${a.tenant}/${session}`), (_object, { storage }) => {
    const body = JSON.stringify({ type: "event", turn: "t1", name: "large", data: "x".repeat(SESSION_EVENT_BYTES_MAX - AROUND_BYTES) });
    storage.sql.exec(`${NUMBERS} INSERT INTO session_log (at_ms, type, turn, body) SELECT 1, 'event', 't1', ? FROM n`, LARGE_EVENTS, body);
    const text = "漢".repeat(LOG_TEXT_CHARS_MAX);
    storage.sql.exec(`${NUMBERS} INSERT INTO session_lines (turn, at_ms, level, text) SELECT 't1', 1, 'info', ? FROM n`, 2_000, text);
  });
  const read = await readAll(
    `/v1/sessions/${session}/events`,
    (json) => sessionPage.parse(json),
    (page) => page.events,
  );
  expect(read.seqs).toEqual(upTo(LARGE_EVENTS));
  expect(read.largest_bytes).toBeLessThan(PAGE_BYTES_MAX + AROUND_BYTES * LARGE_EVENTS);
  const lines = await readAll(
    `/v1/sessions/${session}/logs`,
    (json) => sessionLogList.parse(json),
    (page) => page.lines,
  );
  expect(lines.seqs).toEqual(upTo(2_000));
  expect(lines.largest_bytes).toBeLessThan(PAGE_BYTES_MAX + LINES_PAGE_MAX * AROUND_BYTES);
});
