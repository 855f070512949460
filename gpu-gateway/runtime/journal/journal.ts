/**
 * The journal: metering's inputs on disk, append-only, together with the fold of them. Whoever has the files can recompute every row.
 *
 * Append buffers; a writer puts everything buffered on disk with one write and one fdatasync (group commit): at once when somebody waits
 * in `durable()`, else after `group_commit_ms`. While one commit is under way the next gathers. Order on disk is order of append.
 *
 * Segments: at SEGMENT_BYTES_MAX the next record begins a new file, whose head is the fold's state, so that a start reads one segment. Old ones stay:
 * they are the evidence. Beyond RETAIN_BYTES_MAX the oldest that have been shipped go.
 *
 * When a write fails (disk full, I/O error) the journal is `failed` for good: what the kernel kept of the failed write is unknown, so
 * nothing may follow it. Appends are dropped, `durable()` rejects, `on_failure` is called once; the gateway stops taking calls. The next start
 * truncates a torn tail, and the time since goes to `lost`.
 *
 * One process to a folder: the cell's lease sees to that.
 */
import { mkdir, open, truncate, unlink, type FileHandle } from "node:fs/promises";
import type { CellId } from "../../../schema/core/ids.ts";
import type { FoldState } from "../../policy/metering/checkpoint.ts";
import { createFold, type Fold } from "../../policy/metering/fold.ts";
import type { FoldOutput } from "../../policy/metering/outputs.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import type { Nanos } from "../../../schema/core/time.ts";
import { encodeLine, JOURNAL_FORMAT } from "./codec.ts";
import { syncFolder } from "./durable-files.ts";
import { journalReader, type JournalReader } from "./reader.ts";
import {
  beginningOf,
  CorruptJournal,
  isTornTail,
  listSegments,
  readHead,
  readSegment,
  segmentBytes,
  segmentPath,
  type Position,
} from "./segments.ts";

export const GROUP_COMMIT_MS = 5; // how long a record for which nobody waits may stay in memory
export const SEGMENT_BYTES_MAX = 33_554_432; // then a new segment begins
const PENDING_CHARS_MAX = 67_108_864; // waiting for a disk that does not answer: then the journal has failed

export type JournalOptions = {
  readonly dir: string;
  readonly cell: CellId;
  readonly on_failure: (reason: string) => void;
  readonly group_commit_ms?: number;
  readonly segment_bytes_max?: number;
  readonly retain_bytes_max?: number;
};

export type Recovery = {
  /** Bytes of an unfinished write that were cut off; null when the last run ended cleanly or mid-air between writes. */
  readonly torn: { readonly file: string; readonly bytes: number } | null;
  readonly records_replayed: number;
};

export class JournalFailed extends Error {}

export interface Journal extends JournalReader {
  readonly recovery: Recovery;
  /** Of everything appended. Nobody else may apply to it. */
  readonly fold: Fold;
  /** A new segment whose head holds `state`, whatever was before: for a cell that was another's meanwhile. Its records come after the instant `after`. */
  beginAnew(state: FoldState, after: Nanos): Promise<Position>;
  readonly last_t: Nanos | null;
  state(): "open" | "failed" | "closed";
  /** What the fold says of it, usage left out. */
  append(record: MeteringRecord): readonly FoldOutput[];
  /** Resolves when everything appended so far is on disk. */
  durable(): Promise<void>;
  /** The end of what is on disk. */
  end(): Position;
  close(): Promise<void>;
}

/** Something for the writer: lines of the open segment, or the head of a new one. */
type Pending = { readonly new_segment: number | null; readonly text: string; readonly last_seq: number };

export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { dir, cell } = options;
  const group_commit_ms = options.group_commit_ms ?? GROUP_COMMIT_MS;
  const segment_bytes_max = options.segment_bytes_max ?? SEGMENT_BYTES_MAX;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const recovered = await recover(dir, cell);
  let { fold } = recovered;

  let status: "open" | "failed" | "closed" = "open";
  let failure = "";
  let last_t: Nanos | null = recovered.last_t;
  let file: FileHandle = await open(segmentPath(dir, recovered.end.segment), "a", 0o600);
  // What survived a crash without having been synced is read as true from here on, so it must be durable first.
  await file.datasync();
  let durable_end = recovered.end;
  let appended_seq = recovered.end.seq;
  let segment_chars = recovered.end.offset;
  let pending: Pending[] = [];
  let pending_chars = 0;
  let waiters: { readonly seq: number; readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  let writing: Promise<void> | null = null;
  let timer: NodeJS.Timeout | null = null;
  let immediate: NodeJS.Immediate | null = null;

  function enqueue(item: Pending): void {
    pending.push(item);
    pending_chars += item.text.length;
    appended_seq = item.last_seq;
    if (pending_chars > PENDING_CHARS_MAX) fail(`the disk has not taken ${pending_chars} characters of journal`);
  }

  function rotate(state: FoldState): void {
    const segment = appended_seq + 1;
    const head = { type: "segment", format: JOURNAL_FORMAT, cell, state } as const;
    const text = encodeLine(segment, head);
    enqueue({ new_segment: segment, text, last_seq: segment });
    segment_chars = 0;
  }

  function fail(reason: string): void {
    if (status !== "open") return;
    status = "failed";
    failure = reason;
    pending = [];
    pending_chars = 0;
    for (const { reject } of waiters.splice(0)) reject(new JournalFailed(reason));
    options.on_failure(reason);
  }

  const unwritten = (): boolean => status === "open" && (writing !== null || pending.length > 0);

  function startWriting(): void {
    if (timer) clearTimeout(timer);
    if (immediate) clearImmediate(immediate);
    timer = null;
    immediate = null;
    if (writing || status === "failed" || pending.length === 0) return;
    writing = commit()
      .catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)))
      .finally(() => {
        writing = null;
        if (pending.length > 0) schedule();
      });
  }

  function schedule(): void {
    if (writing) return;
    if (waiters.length > 0) immediate ??= setImmediate(startWriting);
    else timer ??= setTimeout(startWriting, group_commit_ms);
  }

  async function commit(): Promise<void> {
    const batch = pending;
    pending = [];
    pending_chars = 0;
    let lines: string[] = [];
    for (const item of batch) {
      if (item.new_segment !== null) {
        await write(lines, item.new_segment - 1);
        lines = [];
        await beginSegment(item.new_segment);
      }
      lines.push(item.text);
    }
    const seq = batch.at(-1)?.last_seq ?? durable_end.seq;
    await write(lines, seq);
    while (waiters[0] && waiters[0].seq <= seq) waiters.shift()?.resolve();
  }

  async function write(lines: readonly string[], seq: number): Promise<void> {
    if (lines.length === 0) return;
    const bytes = Buffer.from(lines.join(""));
    await file.appendFile(bytes);
    await file.datasync();
    durable_end = { segment: durable_end.segment, offset: durable_end.offset + bytes.length, seq };
  }

  async function beginSegment(segment: number): Promise<void> {
    await file.close();
    file = await open(segmentPath(dir, segment), "ax", 0o600);
    await syncFolder(dir);
    durable_end = { segment, offset: 0, seq: segment - 1 };
  }

  function durable(): Promise<void> {
    if (status === "failed") return Promise.reject(new JournalFailed(failure));
    if (durable_end.seq >= appended_seq) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    waiters.push({ seq: appended_seq, resolve, reject });
    schedule();
    return promise;
  }

  return {
    ...journalReader(dir, cell, options.retain_bytes_max),
    recovery: recovered.recovery,
    get fold() {
      return fold;
    },
    async beginAnew(state, after) {
      rotate(state);
      fold = liveFold(cell, state);
      const segment = appended_seq;
      if (last_t === null || after > last_t) last_t = after;
      await durable();
      return beginningOf(segment);
    },
    get last_t() {
      return last_t;
    },
    state: () => status,
    append(record) {
      if (status !== "open") return [];
      if (segment_chars > segment_bytes_max) rotate(fold.checkpoint());
      const text = encodeLine(appended_seq + 1, record);
      enqueue({ new_segment: null, text, last_seq: appended_seq + 1 });
      segment_chars += text.length;
      last_t = record.t;
      schedule();
      return fold.apply(record);
    },
    durable,
    end: () => durable_end,
    async close() {
      while (unwritten()) {
        startWriting();
        await writing;
      }
      await writing;
      if (status === "open") status = "closed";
      if (timer) clearTimeout(timer);
      if (immediate) clearImmediate(immediate);
      await file.close();
    },
  };
}

/** Usage is not asked of it: the shipper makes the rows, from the files. */
const liveFold = (cell: CellId, state: FoldState | null): Fold => createFold(cell, state ?? undefined, { usage: false });

type Recovered = { readonly fold: Fold; readonly last_t: Nanos | null; readonly end: Position; readonly recovery: Recovery };

/** Replays the last segment. A tail that a crash tore is cut off; a head that was torn means that the segment never began. */
async function recover(dir: string, cell: CellId): Promise<Recovered> {
  const segments = await listSegments(dir);
  const segment = segments.at(-1);
  if (segment === undefined) return createFirst(dir, cell);
  const path = segmentPath(dir, segment);
  let torn: Recovery["torn"] = null;
  let end = beginningOf(segment);
  let fold: Fold | null = null;
  let last_t: Nanos | null = null;
  let records_replayed = 0;
  const size = await segmentBytes(dir, segment);
  try {
    const { head, end: head_end } = await readHead(dir, segment, cell);
    end = head_end;
    fold = liveFold(cell, head.state);
    last_t = head.state?.last_t === undefined || head.state.last_t === null ? null : (BigInt(head.state.last_t) as Nanos);
    for await (const { entry, end: entry_end } of readSegment(dir, end, size)) {
      if (entry.type === "segment") continue;
      fold.apply(entry);
      last_t = entry.t;
      end = entry_end;
      records_replayed += 1;
    }
  } catch (error) {
    if (!(error instanceof CorruptJournal) || !(await isTornTail(dir, segment, end.offset))) throw error;
    torn = { file: path, bytes: size - end.offset };
    if (fold) await truncate(path, end.offset);
    else await unlink(path);
    await syncFolder(dir);
  }
  if (fold) return { fold, last_t, end, recovery: { torn, records_replayed } };
  const before = await recover(dir, cell);
  return { ...before, recovery: { ...before.recovery, torn } };
}

async function createFirst(dir: string, cell: CellId): Promise<Recovered> {
  const text = encodeLine(1, { type: "segment", format: JOURNAL_FORMAT, cell, state: null });
  const file = await open(segmentPath(dir, 1), "ax", 0o600);
  try {
    await file.appendFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
  await syncFolder(dir);
  const end = { segment: 1, offset: Buffer.byteLength(text), seq: 1 };
  return { fold: liveFold(cell, null), last_t: null, end, recovery: { torn: null, records_replayed: 0 } };
}
