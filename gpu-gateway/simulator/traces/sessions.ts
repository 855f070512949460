/**
 * Coding-agent sessions: an archive of JSON files (.tar or .tar.gz), or one such file; a session each. Its `requests` are, in order,
 *  - model calls: `in` and `out` tokens, `hash_ids` (a number for each `block_size` tokens of the prompt, equal where block and
 *    everything before it are equal, within this session), `think_time` (s): from the end of the call before to this one;
 *  - sub-agents (`type: "subagent"`): calls of their own. `t` is when it ended and `duration_ms` how long it took. Those between two
 *    calls of the parent began together when the first of the two ended; the second waits for all of them. After its last call a
 *    sub-agent goes on for what is left of its duration.
 * What was recorded as elapsed is kept where clients spent it (tools, thought) and left out where the model did: that is simulated.
 */
import { bytesOf } from "./bytes.ts";
import { jsonObject, type ReadOptions, shown, skip, type Skipped, whole } from "./lines.ts";
import { entriesOf } from "./tar.ts";
import { callsOf, type ClosedTrace, type Script, type ScriptCall, type Session, type Step, TRACE_CALLS_MAX, TraceFault } from "./trace.ts";

type Row = Record<string, unknown>;
/** Deeper nesting than sub-agents of sub-agents is taken for damage. */
const DEPTH_MAX = 8;

export async function readSessions(file: string, options: ReadOptions): Promise<{ trace: ClosedTrace; skipped: Skipped }> {
  const skipped: Skipped = { count: 0, first: [] };
  const sessions: Session[] = [];
  let block_tokens: number | null = null;
  let calls = 0;
  for await (const { name, body } of filesOf(file)) {
    const where = name === null ? file : `${file}(${name})`;
    try {
      const row = jsonObject(body.toString("utf8"));
      if (typeof row === "string") throw new TraceFault(where, 0, row);
      const session = sessionOf(where, row, name ?? file, options.skip_malformed ? skipped : null);
      if (session.block_tokens !== (block_tokens ??= session.block_tokens))
        throw new TraceFault(where, 0, `block_size is ${session.block_tokens}, in the files before it ${block_tokens}`);
      calls += callsOf(session.script);
      if (calls > TRACE_CALLS_MAX) throw new TraceFault(where, 0, `more than ${TRACE_CALLS_MAX} calls`);
      sessions.push({ id: session.id, scope: null, script: session.script });
    } catch (error) {
      if (!(error instanceof TraceFault)) throw error;
      skip(skipped, error, options);
    }
  }
  sessions.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  return { trace: { kind: "closed", block_tokens: block_tokens ?? 64, sessions }, skipped };
}

async function* filesOf(file: string): AsyncGenerator<{ name: string | null; body: Buffer }> {
  if (!/\.json(\.gz)?$/.test(file)) {
    for await (const entry of entriesOf(file, bytesOf(file))) if (entry.name.endsWith(".json")) yield entry;
    return;
  }
  const parts: Buffer[] = [];
  for await (const part of bytesOf(file)) parts.push(part);
  yield { name: null, body: Buffer.concat(parts) };
}

function sessionOf(where: string, row: Row, fallback_id: string, skipped: Skipped | null): Session & { readonly block_tokens: number } {
  const block_tokens = whole("block_size", row["block_size"], 16);
  if (typeof block_tokens === "string") throw new TraceFault(where, 0, block_tokens);
  if (block_tokens % 16 !== 0) throw new TraceFault(where, 0, `block_size is ${block_tokens}, not a multiple of 16`);
  const id = typeof row["id"] === "string" ? row["id"] : fallback_id;
  const script = scriptOf({ where, block_tokens, skipped }, requestsOf(where, row), null, 0);
  if (callsOf(script) === 0) throw new TraceFault(where, 0, "holds no calls");
  return { id, scope: null, script, block_tokens };
}

type Context = { readonly where: string; readonly block_tokens: number; readonly skipped: Skipped | null };

function scriptOf(context: Context, requests: readonly unknown[], agent: string | null, depth: number): Script {
  if (depth > DEPTH_MAX) throw new TraceFault(context.where, 0, `sub-agents are nested more than ${DEPTH_MAX} deep`);
  const steps: Step[] = [];
  let forks: Script[] = [];
  let forks_end = 0;
  let before: readonly number[] = [];
  let prev_end: number | null = null;
  for (const [i, request] of requests.entries()) {
    try {
      const row = rowOf(context.where, i, request);
      if (row["type"] === "subagent") {
        const { script, end } = subAgent(context, row, i, depth);
        forks.push(script);
        forks_end = Math.max(forks_end, end);
        continue;
      }
      const { call, ids } = callOf(context, row, i, agent, before);
      const t = seconds(context.where, i, "t", row["t"]) ?? 0;
      const think = seconds(context.where, i, "think_time", row["think_time"]);
      const gap: number = forks.length > 0 ? t - forks_end : (think ?? (prev_end === null ? 0 : t - prev_end));
      steps.push({ forks, gap_us: Math.max(0, Math.round(gap * 1e6)), call });
      prev_end = t + (seconds(context.where, i, "api_time", row["api_time"]) ?? 0);
      before = ids;
      forks = [];
      forks_end = 0;
    } catch (error) {
      if (!(error instanceof TraceFault) || context.skipped === null) throw error;
      skip(context.skipped, error, { skip_malformed: true, limit: null, from_ms: 0, to_ms: null });
    }
  }
  if (forks.length > 0) steps.push({ forks, gap_us: 0, call: null });
  return steps;
}

function subAgent(context: Context, row: Row, i: number, depth: number): { script: Script; end: number } {
  const requests = requestsOf(context.where, row);
  const name = row["subagent_type"];
  const script = scriptOf(context, requests, typeof name === "string" ? name : "subagent", depth + 1);
  const duration_ms = whole("duration_ms", row["duration_ms"] ?? 0, 0);
  if (typeof duration_ms === "string") throw fault(context.where, i, duration_ms);
  const duration = duration_ms / 1_000;
  const last = requests.at(-1);
  const known = typeof last === "object" && last !== null ? (last as Row) : {};
  const computed = numberOr(known["t"], duration) + numberOr(known["api_time"], 0);
  const tail_us = Math.max(0, Math.round((duration - computed) * 1e6));
  return { script: [...script, { forks: [], gap_us: tail_us, call: null }], end: seconds(context.where, i, "t", row["t"]) ?? 0 };
}

function callOf(context: Context, row: Row, i: number, agent: string | null, before: readonly number[]) {
  const prompt = whole("in", row["in"], 1);
  if (typeof prompt === "string") throw fault(context.where, i, prompt);
  const output = whole("out", row["out"], 0);
  if (typeof output === "string") throw fault(context.where, i, output);
  const ids = row["hash_ids"] ?? [];
  if (!Array.isArray(ids) || !ids.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 32))
    throw fault(context.where, i, `hash_ids is ${shown(ids)}, not a list of whole numbers from 0 to 2^32`);
  const full = (ids as number[]).slice(0, Math.floor(prompt / context.block_tokens));
  let keep = 0;
  while (keep < before.length && keep < full.length && before[keep] === full[keep]) keep++;
  const call: ScriptCall = {
    prompt_tokens: prompt,
    output_tokens: Math.max(1, output),
    agent,
    keep,
    fresh: Uint32Array.from(full.slice(keep)),
  };
  return { call, ids: full };
}

function requestsOf(where: string, row: Row): readonly unknown[] {
  const requests = row["requests"];
  if (!Array.isArray(requests)) throw new TraceFault(where, 0, `requests is ${shown(requests)}, not a list`);
  return requests;
}

function rowOf(where: string, i: number, value: unknown): Row {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw fault(where, i, `is ${shown(value)}, not an object`);
  return value as Row;
}

function seconds(where: string, i: number, name: string, value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0)
    throw fault(where, i, `${name} is ${shown(value)}, not seconds from 0`);
  return value;
}

const numberOr = (value: unknown, fallback: number): number => (typeof value === "number" ? value : fallback);
/** A session is one line, or many: its calls have numbers instead. */
const fault = (where: string, i: number, what: string) => new TraceFault(where, 0, `request ${i + 1}: ${what}`);
