/**
 * One line of the journal: `{"seq":12,"crc":"0a1b2c3d","r":{…}}`. The checksum is over the number and the text of `r`, so that a line that was
 * torn, altered or moved is known. Instants are decimal strings. A segment's first line holds the fold's state before its records.
 */
import { crc32 } from "node:zlib";
import type { FoldState } from "../../policy/metering/checkpoint.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";

export const JOURNAL_FORMAT = 1;

export type SegmentHead = { readonly type: "segment"; readonly format: number; readonly cell: string; readonly state: FoldState | null };
export type JournalEntry = SegmentHead | MeteringRecord;

export function encodeLine(seq: number, entry: JournalEntry): string {
  const text = JSON.stringify(entry.type === "segment" ? entry : withDecimalInstants(entry));
  return `{"seq":${seq},"crc":"${checksum(seq, text)}","r":${text}}\n`;
}

export type DecodedLine =
  | { readonly ok: true; readonly seq: number; readonly entry: JournalEntry }
  | { readonly ok: false; readonly reason: string };

const LINE = /^\{"seq":(\d{1,15}),"crc":"([0-9a-f]{8})","r":(\{.*\})\}$/s;

export function decodeLine(line: string): DecodedLine {
  const match = LINE.exec(line);
  if (!match) return { ok: false, reason: "is not a journal line" };
  const [, number = "", crc = "", text = ""] = match;
  const seq = Number(number);
  if (crc !== checksum(seq, text)) return { ok: false, reason: "does not match its checksum" };
  const entry = JSON.parse(text) as { type: string; t?: string; at?: string };
  if (entry.type === "segment") return { ok: true, seq, entry: entry as unknown as SegmentHead };
  const instants = { t: BigInt(entry.t ?? ""), ...(entry.at === undefined ? {} : { at: BigInt(entry.at) }) };
  return { ok: true, seq, entry: { ...entry, ...instants } as unknown as MeteringRecord };
}

const withDecimalInstants = (record: MeteringRecord) =>
  "at" in record ? { ...record, t: record.t.toString(), at: record.at.toString() } : { ...record, t: record.t.toString() };

const checksum = (seq: number, text: string): string => crc32(`${seq}:${text}`).toString(16).padStart(8, "0");
