/**
 * Calls accepted in [from, to), in the order of acceptance, as batches: what a planner replays. One statement behind a cursor, so that
 * all of it is of one instant and none of it lies in memory whole. Sizes and names only: the books hold no prompts.
 */
import type { Nanos } from "../../../core/time.ts";
import type { Db } from "../../sql.ts";

export type ExportQuery = {
  readonly from: Nanos;
  readonly to: Nanos;
  /** Null: every tenant's. */
  readonly tenant: string | null;
};

export type ExportedCall = {
  readonly tenant: string;
  readonly accepted_at_ns: string;
  readonly program: string | null;
  readonly session: string | null;
  readonly agent: string | null;
  readonly model: string | null;
  readonly outcome: string;
  readonly prompt_tokens: string;
  readonly cached_tokens: string;
  readonly completion_tokens: string;
};

const BATCH_ROWS = 2_000;

export function exportCalls(sql: Db, q: ExportQuery): AsyncIterable<ExportedCall[]> {
  return sql<ExportedCall[]>`
    select tenant, accepted_at_ns::text as accepted_at_ns, program, session, agent, model, outcome,
      prompt_tokens::text as prompt_tokens, cached_tokens::text as cached_tokens, completion_tokens::text as completion_tokens
    from calls
    where accepted_at_ns >= ${q.from.toString()}::numeric and accepted_at_ns < ${q.to.toString()}::numeric
      and (${q.tenant}::text is null or tenant = ${q.tenant}::text)
    order by calls.accepted_at_ns, tenant, call`.cursor(BATCH_ROWS);
}
