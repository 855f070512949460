/**
 * Azure's LLM inference traces: CSV with a header line and the columns TIMESTAMP (UTC, `YYYY-MM-DD hh:mm:ss.fffffff`), ContextTokens
 * and GeneratedTokens. They say nothing of prompts' contents, so no call finds anything in a cache.
 */
import { type LineFormat, type Parsed, shown, whole } from "./lines.ts";

const COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"] as const;
const INSTANT = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?$/;

export function azure(): LineFormat {
  let at_columns: readonly number[] | null = null;
  return {
    parse(text): Parsed {
      if (text.trim() === "") return { type: "nothing" };
      const cells = text.split(",").map((cell) => cell.trim());
      if (at_columns === null) {
        at_columns = COLUMNS.map((name) => cells.indexOf(name));
        const missing = COLUMNS.filter((_, i) => at_columns?.[i] === -1);
        if (missing.length === 0) return { type: "nothing" };
        at_columns = [0, 1, 2]; // whoever skips malformed lines goes on with the usual order
        return { type: "malformed", what: `the header has no column ${missing.join(", ")}` };
      }
      const [instant, prompt_text, output_text] = at_columns.map((i) => cells[i]);
      const at_us = microsOf(instant ?? "");
      if (at_us === null) return { type: "malformed", what: `TIMESTAMP is ${shown(instant)}, not like 2023-11-16 18:17:03.9799600` };
      const prompt = whole("ContextTokens", numberOf(prompt_text), 1);
      if (typeof prompt === "string") return { type: "malformed", what: prompt };
      const output = whole("GeneratedTokens", numberOf(output_text), 0);
      if (typeof output === "string") return { type: "malformed", what: output };
      const call = {
        at_us,
        prompt_tokens: prompt,
        output_tokens: Math.max(1, output),
        tenant: "trace",
        program: null,
        agent: null,
        blocks: [],
      };
      return { type: "call", call };
    },
  };
}

/** The text itself where it is no number, so that the message can show it. */
const numberOf = (text: string | undefined): unknown => (text !== undefined && /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : text);

function microsOf(text: string): number | null {
  const found = INSTANT.exec(text);
  if (found === null) return null;
  const seconds_ms = Date.parse(`${found[1]}T${found[2]}Z`);
  if (Number.isNaN(seconds_ms)) return null;
  return seconds_ms * 1_000 + Math.round(Number(`0.${found[3] ?? "0"}`) * 1_000_000);
}
