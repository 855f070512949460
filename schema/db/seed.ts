/**
 * What a fresh development database begins with: one tenant with one project, and the example prices. Harmless to repeat; nothing
 * that is there is changed.
 */
import postgres from "postgres";
import { type ProjectId, type TenantId, asId } from "../core/ids.ts";
import { EXAMPLE_PRICES } from "../core/rating/prices.ts";
import { insertPrices } from "./queries/reports/insert-prices.ts";
import { ensureProject } from "./queries/tenants/ensure-project.ts";

export const DEFAULT_TENANT: TenantId = asId<"tenant">("ten_default");
export const DEFAULT_PROJECT: ProjectId = asId<"project">("prj_default");

export async function seedDefaults(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await ensureProject(sql, { tenant: DEFAULT_TENANT, tenant_name: "default", project: DEFAULT_PROJECT, project_name: "default" });
    await insertPrices(sql, EXAMPLE_PRICES);
  } finally {
    await sql.end();
  }
}
