/** Appends calls that ended. A call that is there already, by (tenant, call, acceptance), is left alone. */
import { type Db, arrayOf } from "../../sql.ts";

export type EndedCall = {
  readonly call_id: string;
  readonly tenant: string;
  readonly accepted_at: bigint;
  readonly ended_at: bigint;
  readonly outcome: string;
  readonly code: string | null;
  /** project, function, version, run, session, program, agent, model, key. */
  readonly tags: Readonly<Record<string, string | null>>;
  readonly tokens: { readonly prompt: number; readonly cached: number; readonly completion: number };
};

export async function insertCalls(sql: Db, cell: string, calls: readonly EndedCall[]): Promise<void> {
  const column = (of: (call: EndedCall) => string | number | bigint | null | undefined) => arrayOf(calls.map(of));
  const tag = (name: string) => column((c) => c.tags[name]);
  await sql`
    insert into calls (
      cell, tenant, call, accepted_at_ns, ended_at_ns, outcome, code, project, function, version, run, session, program, agent, model,
      key, prompt_tokens, cached_tokens, completion_tokens
    )
    select ${cell}::text, i.* from unnest(
      ${column((c) => c.tenant)}::text[], ${column((c) => c.call_id)}::text[], ${column((c) => c.accepted_at)}::numeric[],
      ${column((c) => c.ended_at)}::numeric[], ${column((c) => c.outcome)}::text[], ${column((c) => c.code)}::text[],
      ${tag("project")}::text[], ${tag("function")}::text[], ${tag("version")}::text[], ${tag("run")}::text[],
      ${tag("session")}::text[], ${tag("program")}::text[], ${tag("agent")}::text[], ${tag("model")}::text[], ${tag("key")}::text[],
      ${column((c) => c.tokens.prompt)}::bigint[], ${column((c) => c.tokens.cached)}::bigint[],
      ${column((c) => c.tokens.completion)}::bigint[]
    ) as i (tenant, call, accepted_at_ns)
    order by i.tenant, i.call, i.accepted_at_ns
    on conflict do nothing`;
}
