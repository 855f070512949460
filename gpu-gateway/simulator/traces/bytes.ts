/**
 * A file as plain bytes and as lines, in bounded memory. Compressed or not is seen from its first two bytes, whatever its name.
 * A line longer than LINE_BYTES_MAX is not kept: it comes as `null`.
 */
import { createReadStream, type ReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createGunzip } from "node:zlib";
import { TraceFault } from "./trace.ts";

const GZIP = "its gzip stream";
export const LINE_BYTES_MAX = 4 * 1024 * 1024;

export async function* bytesOf(file: string): AsyncGenerator<Buffer> {
  let source: ReadStream | null = null;
  try {
    const zipped = await isGzip(file);
    source = createReadStream(file, { highWaterMark: 256 * 1024 });
    const stream = zipped ? source.pipe(createGunzip()) : source;
    // pipe() does not carry a read error over: without this the gunzip would wait for ever.
    if (zipped) source.on("error", (error) => stream.destroy(error));
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (error) {
    throw faultOf(file, error);
  } finally {
    source?.destroy();
  }
}

export async function* linesOf(file: string): AsyncGenerator<{ readonly line: number; readonly text: string | null }> {
  let line = 1;
  let parts: Buffer[] = [];
  let bytes = 0;
  const take = (): { line: number; text: string | null } => {
    const text = bytes > LINE_BYTES_MAX ? null : withoutReturn(Buffer.concat(parts).toString("utf8"));
    parts = [];
    bytes = 0;
    return { line: line++, text };
  };
  try {
    for await (const chunk of bytesOf(file)) {
      let from = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
        add(chunk.subarray(from, end));
        yield take();
        from = end + 1;
      }
      add(chunk.subarray(from));
    }
  } catch (error) {
    // Where a damaged stream ends is worth saying; a file that is not there has no lines.
    if (error instanceof TraceFault && error.what.startsWith(GZIP)) throw new TraceFault(file, line, error.what);
    throw error;
  }
  if (bytes > 0) yield take();

  function add(part: Buffer): void {
    bytes += part.length;
    if (bytes > LINE_BYTES_MAX) parts = [];
    else if (part.length > 0) parts.push(part);
  }
}

async function isGzip(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
  } finally {
    await handle.close();
  }
}

function faultOf(file: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT") return new TraceFault(file, 0, "there is no such file");
  if (code === "EISDIR") return new TraceFault(file, 0, "is a folder, not a file");
  if (code === "EACCES") return new TraceFault(file, 0, "may not be read");
  if (code === "Z_BUF_ERROR") return new TraceFault(file, 0, `${GZIP} ends too early: the file was cut`);
  if (code?.startsWith("Z_")) return new TraceFault(file, 0, `${GZIP} is damaged (${(error as Error).message})`);
  return error;
}

/** Also a byte order mark, which some exports begin with. */
function withoutReturn(text: string): string {
  const end = text.endsWith("\r") ? text.length - 1 : text.length;
  return text.charCodeAt(0) === 0xfeff ? text.slice(1, end) : text.slice(0, end);
}
