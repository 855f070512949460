/** A tenant's usage report, from the database: reads, then rates (schema/core/rating). For any client: Node's or a Worker's. */
import type { Currency } from "../core/money.ts";
import { buildUsageReport, reportPeriod } from "../core/rating/report.ts";
import type { Nanos } from "../core/time.ts";
import type { UsageGroup, UsageReport } from "../core/wire/http.ts";
import { listPrices } from "./queries/reports/list-prices.ts";
import { missingUsage } from "./queries/reports/missing-usage.ts";
import { reconcileCells } from "./queries/reports/reconcile-cells.ts";
import { sumEdgeUsage } from "./queries/reports/sum-edge-usage.ts";
import { sumUsage } from "./queries/reports/sum-usage.ts";
import type { Db } from "./sql.ts";

export const REPORT_CURRENCY: Currency = "EUR";

export type ReportRequest = {
  readonly tenant: string;
  /** Widened to whole UTC minutes. */
  readonly from: Nanos;
  readonly to: Nanos;
  /** Two at most (USAGE_GROUPS_MAX). */
  readonly group_by: readonly UsageGroup[];
  readonly currency?: Currency | undefined;
  readonly run?: string | undefined;
  readonly session?: string | undefined;
  readonly function?: string | undefined;
};

export async function readUsageReport(sql: Db, request: ReportRequest): Promise<UsageReport> {
  const { group_by, currency = REPORT_CURRENCY } = request;
  const { from, to } = reportPeriod(request.from, request.to);
  const query = { ...request, from, to, currency };
  const [usage, edge, prices, cells, usage_rows] = await Promise.all([
    sumUsage(sql, query),
    sumEdgeUsage(sql, query),
    listPrices(sql, currency),
    reconcileCells(sql, { from, to }),
    missingUsage(sql, { tenant: request.tenant, from, to }),
  ]);
  return buildUsageReport({ from, to, group_by, currency, usage, prices, edge, cells, usage_rows });
}
