/** A project's functions by name, with what each alias names. */
import type { Db } from "../../sql.ts";

export type FunctionSummary = { readonly function: string; readonly name: string; readonly aliases: Record<string, string> };

export async function listFunctions(sql: Db, of: { readonly tenant: string; readonly project: string }): Promise<FunctionSummary[]> {
  const rows = await sql<FunctionSummary[]>`
    select f.function, f.name, coalesce(jsonb_object_agg(a.alias, a.version) filter (where a.alias is not null), '{}') as aliases
    from functions f
    left join function_aliases a on a.function = f.function
    where f.tenant = ${of.tenant}::text and f.project = ${of.project}::text
    group by f.function, f.name
    order by f.name`;
  return rows.map((row) => ({ ...row }));
}
