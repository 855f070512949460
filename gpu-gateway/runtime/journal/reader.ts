/** The journal's files as those see them who only read, and clear away what is shipped: the shipper, which may be in another thread. */
import { unlink } from "node:fs/promises";
import type { CellId } from "../../../schema/core/ids.ts";
import type { MeteringRecord } from "../../policy/metering/records.ts";
import { isUntold } from "../../policy/metering/takeover.ts";
import { beginningOf, listSegments, readHead, readSegment, segmentBytes, segmentPath, type Position } from "./segments.ts";

export const RETAIN_BYTES_MAX = 8_589_934_592; // of segments that were shipped; one that was not is kept whatever its size

export interface JournalReader {
  /** Records that are on disk, after `from` and up to `to`. */
  read(from: Position, to: Position): AsyncGenerator<{ readonly record: MeteringRecord; readonly end: Position }>;
  /** Number of the first segment that counts: the oldest, or the last with which the journal began anew. */
  first(): Promise<number>;
  /** Removes the oldest segments beyond the retention limit, none that `shipped` has yet to read. */
  prune(shipped: Position): Promise<void>;
}

export function journalReader(dir: string, cell: CellId, retain_bytes_max = RETAIN_BYTES_MAX): JournalReader {
  return {
    async *read(from, to) {
      for (const segment of await listSegments(dir)) {
        if (segment < from.segment || segment > to.segment) continue;
        const begin = segment === from.segment ? from : beginningOf(segment);
        const stop = segment === to.segment ? to.offset : await segmentBytes(dir, segment);
        for await (const { entry, end } of readSegment(dir, begin, stop)) if (entry.type !== "segment") yield { record: entry, end };
      }
    },
    async first() {
      const segments = await listSegments(dir);
      for (const segment of segments.toReversed()) if (isUntold((await readHead(dir, segment, cell)).head.state)) return segment;
      return segments[0] ?? 1;
    },
    async prune(shipped) {
      const segments = await listSegments(dir);
      const sizes = await Promise.all(segments.map((segment) => segmentBytes(dir, segment)));
      let total = sizes.reduce((sum, bytes) => sum + bytes, 0);
      for (const [index, segment] of segments.entries()) {
        if (total <= retain_bytes_max || segment >= shipped.segment) return;
        await unlink(segmentPath(dir, segment));
        total -= sizes[index] ?? 0;
      }
    },
  };
}
