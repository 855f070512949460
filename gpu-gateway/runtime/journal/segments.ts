/** The journal's files: `<number of its first line>.ndjson`, each a head and the records after it. Reading them, and what is wrong with them. */
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { decodeLine, JOURNAL_FORMAT, type JournalEntry, type SegmentHead } from "./codec.ts";

/** The end of a line: where the next one begins. `segment` is the number of the segment's first line, `seq` that of the line that ended. */
export type Position = { readonly segment: number; readonly offset: number; readonly seq: number };

const READ_BYTES = 32_768; // read at a time: decoding one such piece keeps the event loop for 1 or 2 ms
const LINE_BYTES_MAX = 67_108_864; // a longer line is corrupt: a segment's head holds the state of all open calls, the rest is small

export class CorruptJournal extends Error {
  readonly file: string;
  readonly line: number;
  readonly offset: number;
  constructor(file: string, line: number, offset: number, reason: string) {
    super(`journal ${file} line ${line} ${reason}`);
    this.file = file;
    this.line = line;
    this.offset = offset;
  }
}

export const segmentPath = (dir: string, segment: number): string => join(dir, `${segment.toString().padStart(15, "0")}.ndjson`);

/** Numbers of the segments there are, oldest first. */
export async function listSegments(dir: string): Promise<number[]> {
  const names = await readdir(dir);
  return names
    .filter((name) => /^\d{15}\.ndjson$/.test(name))
    .map((name) => Number(name.slice(0, 15)))
    .sort((a, b) => a - b);
}

export const segmentBytes = async (dir: string, segment: number): Promise<number> => (await stat(segmentPath(dir, segment))).size;

export type ReadEntry = { readonly entry: JournalEntry; readonly end: Position };

/** The entries of one segment after `from` (`offset` 0, `seq` segment − 1: all), up to byte `to`. Throws CorruptJournal at a line that is not right. */
export async function* readSegment(dir: string, from: Position, to: number): AsyncGenerator<ReadEntry> {
  const path = segmentPath(dir, from.segment);
  const file = await open(path, "r");
  try {
    let { offset, seq } = from;
    let rest = Buffer.alloc(0);
    const buffer = Buffer.alloc(READ_BYTES);
    for (let at = offset; at < to;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(READ_BYTES, to - at), at);
      if (bytesRead === 0) break;
      at += bytesRead;
      rest = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      let begin = 0;
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, begin)) {
        const decoded = decodeLine(rest.toString("utf8", begin, end));
        const line = seq + 2 - from.segment;
        if (!decoded.ok) throw new CorruptJournal(path, line, offset, decoded.reason);
        if (decoded.seq !== seq + 1) throw new CorruptJournal(path, line, offset, `has number ${decoded.seq}, not ${seq + 1}`);
        seq += 1;
        offset += end + 1 - begin;
        begin = end + 1;
        yield { entry: decoded.entry, end: { segment: from.segment, offset, seq } };
      }
      rest = rest.subarray(begin);
      if (rest.length > LINE_BYTES_MAX) throw new CorruptJournal(path, seq + 2 - from.segment, offset, "is longer than a line can be");
    }
    if (rest.length > 0) throw new CorruptJournal(path, seq + 2 - from.segment, offset, "does not end");
  } finally {
    await file.close();
  }
}

/** The head of a segment, and where it ends. */
export async function readHead(dir: string, segment: number, cell: string): Promise<{ head: SegmentHead; end: Position }> {
  const path = segmentPath(dir, segment);
  for await (const { entry, end } of readSegment(dir, beginningOf(segment), await segmentBytes(dir, segment))) {
    if (entry.type !== "segment") throw new CorruptJournal(path, 1, 0, "is no segment head");
    if (entry.format !== JOURNAL_FORMAT) throw new CorruptJournal(path, 1, 0, `has format ${entry.format}, not ${JOURNAL_FORMAT}`);
    if (entry.cell !== cell) throw new CorruptJournal(path, 1, 0, `is of cell ${entry.cell}, not ${cell}`);
    return { head: entry, end };
  }
  throw new CorruptJournal(path, 1, 0, "is missing");
}

export const beginningOf = (segment: number): Position => ({ segment, offset: 0, seq: segment - 1 });

/**
 * Is what follows `offset` the tail of a write that a crash cut off, and nothing else? Such a tail holds no whole good line:
 * everything after the first torn byte was never reported durable. A good line after a bad one means damage, which a person must look at.
 */
export async function isTornTail(dir: string, segment: number, offset: number): Promise<boolean> {
  const file = await open(segmentPath(dir, segment), "r");
  try {
    const { size } = await file.stat();
    if (size - offset > LINE_BYTES_MAX * 2) return false;
    const tail = Buffer.alloc(size - offset);
    await file.read(tail, 0, tail.length, offset);
    return !tail
      .toString("utf8")
      .split("\n")
      .slice(0, -1)
      .some((line) => decodeLine(line).ok);
  } finally {
    await file.close();
  }
}
