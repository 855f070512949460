/**
 * Mooncake's trace format: one JSON object a line with `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, a number for
 * each block of 512 tokens of the prompt, equal where block and everything before it are equal, over the whole file. The last block
 * is partial where the prompt is no multiple of 512; only full blocks can be found in a cache, so it is left out.
 */
import { jsonObject, type LineFormat, type Parsed, shown, whole } from "./lines.ts";

export const MOONCAKE_BLOCK_TOKENS = 512;
/** A trace names no tenants: all its calls are of one, as its block names are shared by all. */
const TENANT = "trace";

export const mooncake: LineFormat = {
  parse(text): Parsed {
    if (text.trim() === "") return { type: "nothing" };
    const row = jsonObject(text);
    if (typeof row === "string") return { type: "malformed", what: row };
    const at = row["timestamp"];
    if (typeof at !== "number" || !(at >= 0)) return { type: "malformed", what: `timestamp is ${shown(at)}, not milliseconds from 0` };
    const prompt = whole("input_length", row["input_length"], 1);
    if (typeof prompt === "string") return { type: "malformed", what: prompt };
    const output = whole("output_length", row["output_length"], 0);
    if (typeof output === "string") return { type: "malformed", what: output };
    const ids = row["hash_ids"] ?? [];
    if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0))
      return { type: "malformed", what: `hash_ids is ${shown(ids)}, not a list of whole numbers from 0` };
    if (ids.length > Math.ceil(prompt / MOONCAKE_BLOCK_TOKENS))
      return { type: "malformed", what: `${ids.length} hash_ids for ${prompt} tokens, more than one for each 512` };
    return {
      type: "call",
      call: {
        at_us: Math.round(at * 1_000),
        prompt_tokens: prompt,
        // An engine gives at least one token.
        output_tokens: Math.max(1, output),
        tenant: TENANT,
        program: null,
        agent: null,
        blocks: (ids as number[]).slice(0, Math.floor(prompt / MOONCAKE_BLOCK_TOKENS)),
      },
    };
  },
};
