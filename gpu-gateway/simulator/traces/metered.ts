/**
 * Our own metered traffic, as `millrace plan export` writes it: a header line, then one line a call in order of acceptance.
 *
 *   {"format":"millrace-calls","version":1,"from":"…","to":"…","tenant":null}
 *   {"at_us":0,"prompt_tokens":812,"cached_tokens":640,"completion_tokens":96,"tenant":"t1","program":"p1","agent":"writer","model":"…"}
 *
 * The books hold no prompts, so what they began with is an estimate from what engines found cached: the `cached_tokens` of a call are
 * taken to be the beginning of the prompt before it in the same program. That is exact where a program appends to one conversation,
 * and finds nothing where programs share a prompt. Whole blocks of 64 tokens.
 */
import { jsonObject, type LineFormat, type Parsed, shown, whole } from "./lines.ts";

export const METERED_FORMAT = "millrace-calls";
export const METERED_VERSION = 1;
export const METERED_BLOCK_TOKENS = 64;
/** Programs whose last prompt is remembered; beyond it the one longest without a call is forgotten, and its next finds nothing. */
const PROGRAMS_MAX = 10_000;

export function metered(): LineFormat {
  let header_seen = false;
  let next_block = 1;
  const last_prompt = new Map<string, readonly number[]>();

  const blocksOf = (program: string | null, prompt: number, cached: number): readonly number[] => {
    if (program === null) return [];
    const before = last_prompt.get(program) ?? [];
    const count = Math.floor(prompt / METERED_BLOCK_TOKENS);
    const blocks = before.slice(0, Math.min(count, Math.floor(cached / METERED_BLOCK_TOKENS)));
    while (blocks.length < count) blocks.push(next_block++);
    last_prompt.delete(program);
    last_prompt.set(program, blocks);
    if (last_prompt.size > PROGRAMS_MAX)
      for (const oldest of last_prompt.keys()) if (last_prompt.size > PROGRAMS_MAX) last_prompt.delete(oldest);
    return blocks;
  };

  return {
    parse(text): Parsed {
      if (text.trim() === "") return { type: "nothing" };
      const row = jsonObject(text);
      if (typeof row === "string") return { type: "malformed", what: row };
      if (!header_seen) {
        header_seen = true;
        if (row["format"] !== METERED_FORMAT)
          return { type: "malformed", what: `the first line is no header: format is ${shown(row["format"])}` };
        if (row["version"] !== METERED_VERSION)
          return {
            type: "malformed",
            what: `version ${shown(row["version"])} of the format is not known here; known is ${METERED_VERSION}`,
          };
        return { type: "nothing" };
      }
      const at_us = whole("at_us", row["at_us"], 0);
      if (typeof at_us === "string") return { type: "malformed", what: at_us };
      const prompt = whole("prompt_tokens", row["prompt_tokens"], 1);
      if (typeof prompt === "string") return { type: "malformed", what: prompt };
      const output = whole("completion_tokens", row["completion_tokens"], 0);
      if (typeof output === "string") return { type: "malformed", what: output };
      const cached = whole("cached_tokens", row["cached_tokens"] ?? 0, 0);
      if (typeof cached === "string") return { type: "malformed", what: cached };
      const names = ["tenant", "program", "agent"].map((name) => row[name] ?? null);
      const wrong = names.findIndex((value) => value !== null && typeof value !== "string");
      if (wrong >= 0) return { type: "malformed", what: `${["tenant", "program", "agent"][wrong]} is ${shown(names[wrong])}, not text` };
      const [tenant, program, agent] = names as (string | null)[];
      return {
        type: "call",
        call: {
          at_us,
          prompt_tokens: prompt,
          output_tokens: Math.max(1, output),
          tenant: tenant ?? "trace",
          program: program ?? null,
          agent: agent ?? null,
          blocks: blocksOf(program ?? null, prompt, cached),
        },
      };
    },
  };
}
