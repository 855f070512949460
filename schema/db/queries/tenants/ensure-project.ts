/** A tenant and one of its projects, made if missing. */
import type { Db } from "../../sql.ts";

export type ProjectSpec = {
  readonly tenant: string;
  readonly tenant_name: string;
  readonly project: string;
  readonly project_name: string;
};

export async function ensureProject(sql: Db, spec: ProjectSpec): Promise<void> {
  await sql`
    with t as (
      insert into tenants (tenant, name) values (${spec.tenant}::text, ${spec.tenant_name}::text) on conflict (tenant) do nothing
    )
    insert into projects (project, tenant, name) values (${spec.project}::text, ${spec.tenant}::text, ${spec.project_name}::text)
    on conflict (project) do nothing`;
}
