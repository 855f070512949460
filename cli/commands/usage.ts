import { usageReport, type UsageGroup, type UsageReport } from "../../schema/core/wire/http.ts";
import { formatGpuSeconds } from "../../schema/core/time.ts";
import { read, request, type Connection } from "../connection.ts";
import { grouped, table } from "../output.ts";

export type UsageOptions = {
  readonly group_by: readonly UsageGroup[];
  readonly from?: string;
  readonly to?: string;
  readonly settle: boolean;
};

export async function usage(connection: Connection, options: UsageOptions): Promise<UsageReport> {
  const query = new URLSearchParams({ group_by: options.group_by.join(",") });
  if (options.from) query.set("from", options.from);
  if (options.to) query.set("to", options.to);
  if (options.settle) query.set("settle", "true");
  const answer = await request(connection, "GET", `/v1/usage?${query.toString()}`);
  return read(answer, usageReport);
}

/** The report as a person reads it, its reconciliation at the foot. */
export function usageText(report: UsageReport): string {
  const rows = [...report.rows, report.total].map((row, i) => [
    i === report.rows.length
      ? "total"
      : report.group_by.map((group) => (group === "function" && row.key["function_name"]) || (row.key[group] ?? "–")).join(" · "),
    String(row.calls),
    grouped(row.prompt_tokens),
    grouped(row.cached_tokens),
    grouped(row.completion_tokens),
    formatGpuSeconds(BigInt(row.prefill_gpu_ns)),
    formatGpuSeconds(BigInt(row.decode_gpu_ns)),
    formatGpuSeconds(BigInt(row.holding_gpu_ns)),
    row.cost,
    row.charge,
  ]);
  const right = true;
  return [
    table(
      [
        { title: report.group_by.join(" · ") },
        { title: "calls", right },
        { title: "prompt", right },
        { title: "cached", right },
        { title: "completion", right },
        { title: "prefill GPU-s", right },
        { title: "decode GPU-s", right },
        { title: "holding GPU-s", right },
        { title: `cost ${report.currency}`, right },
        { title: `charge ${report.currency}`, right },
      ],
      rows,
    ),
    "",
    reconciliationText(report),
  ].join("\n");
}

/** Every nanosecond is accounted for, every call has its tokens, and every row that was written is there. */
export const reconciles = ({ reconciliation: r }: UsageReport): boolean =>
  r.difference_gpu_ns === "0" && r.calls_without_usage === 0 && Object.keys(r.usage_rows_missing ?? {}).length === 0;

export function reconciliationText(report: UsageReport): string {
  const r = report.reconciliation;
  const centres = Object.entries(r.by_cost_centre)
    .map(([centre, gpu_ns]) => `${centre} ${formatGpuSeconds(BigInt(gpu_ns))}`)
    .join(", ");
  const equal = r.difference_gpu_ns === "0";
  return [
    `GPU-seconds of all cells, ${r.from} to ${r.through}: ${centres}`,
    `metered ${grouped(r.metered_gpu_ns)} ns ${equal ? "=" : "≠"} provisioned ${grouped(r.provisioned_gpu_ns)} ns; difference ${grouped(r.difference_gpu_ns)} ns`,
    `${r.calls} calls, ${r.calls_without_usage} without their usage row`,
    `${grouped(r.usage_rows ?? "0")} usage rows written, ${missingText(r.usage_rows_missing ?? {})}`,
  ].join("\n");
}

function missingText(missing: NonNullable<UsageReport["reconciliation"]["usage_rows_missing"]>): string {
  const kinds = Object.entries(missing).map(([kind, { rows, quantity }]) => `${kind} ${rows} (quantity ${grouped(quantity)})`);
  return kinds.length === 0 ? "none missing" : `MISSING: ${kinds.join(", ")}`;
}
