/**
 * Server-sent events, as model servers write them. Bytes may be split anywhere, also inside a character or a line end; lines
 * may end with LF, CRLF or CR. A field that is none of the standard's is not ignored, as browsers do, but a fault: no engine
 * sends one, so the stream is not what it seems.
 */
export type SseEvent = { readonly type: "data"; readonly data: string } | { readonly type: "fault"; readonly detail: string };

export const EVENT_CHARS_MAX = 8 * 1_048_576; // of one event: then a fault

const FIELDS = new Set(["event", "id", "retry"]);

export class SseParser {
  #decoder = new TextDecoder("utf-8"); // drops a byte order mark
  #line = "";
  #data: string | null = null;
  #after_cr = false;
  readonly #emit: (event: SseEvent) => void;

  constructor(emit: (event: SseEvent) => void) {
    this.#emit = emit;
  }

  push(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    if (this.#after_cr && text.startsWith("\n")) text = text.slice(1);
    this.#after_cr = text.endsWith("\r");
    let from = 0;
    for (let at = lineEnd(text, from); at >= 0; at = lineEnd(text, from)) {
      this.#endLine(this.#line + text.slice(from, at));
      this.#line = "";
      from = at + (text.startsWith("\r\n", at) ? 2 : 1);
    }
    this.#line += text.slice(from);
    if (this.#line.length + (this.#data?.length ?? 0) > EVENT_CHARS_MAX) {
      this.#line = "";
      this.#data = null;
      this.#emit({ type: "fault", detail: "an event is too long" });
    }
  }

  #endLine(line: string): void {
    if (line === "") {
      const data = this.#data;
      this.#data = null;
      if (data !== null) this.#emit({ type: "data", data });
      return;
    }
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    if (field === "data") {
      const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
      this.#data = this.#data === null ? value : `${this.#data}\n${value}`;
    } else if (!FIELDS.has(field)) this.#emit({ type: "fault", detail: "a line that is no event-stream field" });
  }
}

function lineEnd(text: string, from: number): number {
  const lf = text.indexOf("\n", from);
  const cr = text.indexOf("\r", from);
  if (cr < 0) return lf;
  return lf < 0 ? cr : Math.min(lf, cr);
}
