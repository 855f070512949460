/** The regular files of a tar archive (POSIX ustar), one whole file at a time: each has a limit, the archive none. */
import { TraceFault } from "./trace.ts";

export const ENTRY_BYTES_MAX = 64 * 1024 * 1024;
const BLOCK = 512;

export type Entry = { readonly name: string; readonly body: Buffer };

export async function* entriesOf(file: string, bytes: AsyncIterable<Buffer>): AsyncGenerator<Entry> {
  const reader = new Reader(file, bytes);
  for (let header = await reader.take(BLOCK); header !== null; header = await reader.take(BLOCK)) {
    if (header.every((byte) => byte === 0)) return;
    const name = field(header, 0, 100);
    const size = Number.parseInt(field(header, 124, 12).trim() || "0", 8);
    if (!checked(header) || !Number.isSafeInteger(size)) throw new TraceFault(file, 0, "is not a tar archive, or damaged");
    if (size > ENTRY_BYTES_MAX) throw new TraceFault(`${file}(${name})`, 0, `is ${size} bytes; the limit is ${ENTRY_BYTES_MAX}`);
    const body = await reader.take(Math.ceil(size / BLOCK) * BLOCK);
    if (body === null) throw new TraceFault(`${file}(${name})`, 0, "the archive ends within this file");
    const type = header[156];
    if (type === 0 || type === 0x30) yield { name, body: body.subarray(0, size) };
  }
}

class Reader {
  readonly #file: string;
  readonly #bytes: AsyncIterator<Buffer>;
  #parts: Buffer[] = [];
  #held = 0;

  constructor(file: string, bytes: AsyncIterable<Buffer>) {
    this.#file = file;
    this.#bytes = bytes[Symbol.asyncIterator]();
  }

  /** Null: the archive has ended, at the end of a block. */
  async take(size: number): Promise<Buffer | null> {
    while (this.#held < size) {
      const next = await this.#bytes.next();
      if (next.done) {
        if (this.#held > 0) throw new TraceFault(this.#file, 0, "the archive ends within a file");
        return size === 0 ? Buffer.alloc(0) : null;
      }
      this.#parts.push(next.value);
      this.#held += next.value.length;
    }
    const all = Buffer.concat(this.#parts);
    this.#parts = [all.subarray(size)];
    this.#held = all.length - size;
    return all.subarray(0, size);
  }
}

const field = (header: Buffer, from: number, length: number): string =>
  header.toString("latin1", from, from + length).replace(/\0.*$/s, "");

function checked(header: Buffer): boolean {
  const stated = Number.parseInt(field(header, 148, 8).trim(), 8);
  let sum = 0;
  for (const [i, byte] of header.entries()) sum += i >= 148 && i < 156 ? 0x20 : byte;
  return sum === stated;
}
