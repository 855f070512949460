/**
 * A tenant's model usage over [from, to), by up to two keys and by the price that was in force when it was used. GPU time comes from
 * `gpu_time` rows, tokens and calls from the `tokens` row that each call leaves when it ends. The period is in whole minutes
 * (reportPeriod), which no row crosses.
 *
 * Of the prices that fit, the most exact one wins (cell, then GPU type, then model), of those the latest in force.
 */
import type { Currency } from "../../../core/money.ts";
import type { PricedUsage } from "../../../core/rating/report.ts";
import type { Nanos } from "../../../core/time.ts";
import type { UsageGroup } from "../../../core/wire/http.ts";
import type { Db } from "../../sql.ts";

export type UsageQuery = {
  readonly tenant: string;
  readonly from: Nanos;
  readonly to: Nanos;
  readonly group_by: readonly UsageGroup[];
  readonly currency: Currency;
  /** Narrows to one run, session or function (its id). */
  readonly run?: string | undefined;
  readonly session?: string | undefined;
  readonly function?: string | undefined;
};

type Row = {
  key1: string | null;
  key2: string | null;
  function_name: string | null;
  price: string | null;
  calls: number;
  prompt: string;
  cached: string;
  completion: string;
  prefill: string;
  decode: string;
  holding: string;
};

export async function sumUsage(sql: Db, q: UsageQuery): Promise<PricedUsage[]> {
  const [first, second] = q.group_by;
  const by_function = q.group_by.includes("function");
  const rows = await sql<Row[]>`
    with priced as (
      select ${keyColumn(sql, first)} as key1, ${keyColumn(sql, second)} as key2, u.function,
        u.kind, u.leg_state, u.quantity, u.call, u.prompt_tokens, u.cached_tokens, u.completion_tokens, p.price
      from usage u
      left join nodes n on n.node = u.node
      left join lateral (
        select p.price from prices p
        where p.currency = ${q.currency}::text and p.effective_from_ns <= u.from_ns
          and case u.kind
            when 'gpu_time' then p.kind = 'gpu_hour' and p.cell in (u.cell, '*') and p.gpu_type in (n.gpu_type, '*')
            else p.kind = 'tokens' and p.model in (u.model, '*')
          end
        order by p.cell = '*', p.gpu_type = '*', p.model = '*', p.effective_from_ns desc, p.version desc, p.price
        limit 1
      ) p on true
      where u.tenant = ${q.tenant}::text and u.kind in ('gpu_time', 'tokens')
        and u.from_ns >= ${q.from.toString()}::numeric and u.from_ns < ${q.to.toString()}::numeric
        and (${q.run ?? null}::text is null or u.run = ${q.run ?? null}::text)
        and (${q.session ?? null}::text is null or u.session = ${q.session ?? null}::text)
        and (${q.function ?? null}::text is null or u.function = ${q.function ?? null}::text)
    )
    select key1, key2, price,
      ${by_function ? sql`(select f.name from functions f where f.function = max(priced.function))` : sql`null::text`} as function_name,
      count(distinct call) filter (where kind = 'tokens')::int as calls,
      coalesce(sum(prompt_tokens), 0)::text as prompt,
      coalesce(sum(cached_tokens), 0)::text as cached,
      coalesce(sum(completion_tokens), 0)::text as completion,
      coalesce(sum(quantity) filter (where kind = 'gpu_time' and leg_state = 'prefill'), 0)::text as prefill,
      coalesce(sum(quantity) filter (where kind = 'gpu_time' and leg_state in ('decode', 'whole')), 0)::text as decode,
      coalesce(sum(quantity) filter (where kind = 'gpu_time' and leg_state = 'holding'), 0)::text as holding
    from priced
    group by key1, key2, price`;
  return rows.map((row) => {
    const key: Record<string, string | null> = {};
    if (first !== undefined) key[first] = row.key1;
    if (second !== undefined) key[second] = row.key2;
    if (by_function) key["function_name"] = row.function_name;
    return {
      key,
      price: row.price,
      calls: row.calls,
      prompt_tokens: BigInt(row.prompt),
      cached_tokens: BigInt(row.cached),
      completion_tokens: BigInt(row.completion),
      prefill_gpu_ns: BigInt(row.prefill),
      decode_gpu_ns: BigInt(row.decode),
      holding_gpu_ns: BigInt(row.holding),
    };
  });
}

/** The only way a key gets into the statement: by name, never by the client's text. */
function keyColumn(sql: Db, group: UsageGroup | undefined) {
  const columns = {
    function: sql`u.function`,
    session: sql`u.session`,
    agent: sql`u.agent`,
    model: sql`u.model`,
    run: sql`u.run`,
    day: sql`to_char(to_timestamp(floor(u.from_ns / 1000000000)::float8) at time zone 'UTC', 'YYYY-MM-DD')`,
  };
  return group === undefined ? sql`null::text` : columns[group];
}
