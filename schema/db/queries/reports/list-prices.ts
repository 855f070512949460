/** All prices of a currency. Few: a row a change. */
import { type Currency, nanoMoney } from "../../../core/money.ts";
import type { PriceRow } from "../../../core/rating/prices.ts";
import { nanos } from "../../../core/time.ts";
import type { Db } from "../../sql.ts";

type Row = {
  price: string;
  kind: "gpu_hour" | "tokens";
  cell: string;
  gpu_type: string;
  model: string;
  currency: Currency;
  version: number;
  note: string;
  effective_from_ns: string;
  per_gpu_hour: string | null;
  prompt_per_million: string | null;
  cached_per_million: string | null;
  completion_per_million: string | null;
};

export async function listPrices(sql: Db, currency: Currency): Promise<PriceRow[]> {
  const rows = await sql<Row[]>`
    select price, kind, cell, gpu_type, model, currency, version, note, effective_from_ns::text as effective_from_ns,
      per_gpu_hour::text as per_gpu_hour, prompt_per_million::text as prompt_per_million,
      cached_per_million::text as cached_per_million, completion_per_million::text as completion_per_million
    from prices where currency = ${currency}::text
    order by price`;
  return rows.map((row) => {
    const { price, currency, version, note, cell, gpu_type, model } = row;
    const dated = { price, currency, version, note, effective_from_ns: nanos(BigInt(row.effective_from_ns)) };
    // A check in the table says that its kind's prices are there.
    const money = (text: string | null) => nanoMoney(BigInt(text ?? "0"));
    if (row.kind === "gpu_hour") return { ...dated, kind: "gpu_hour", cell, gpu_type, per_gpu_hour: money(row.per_gpu_hour) };
    return {
      ...dated,
      kind: "tokens",
      model,
      prompt_per_million: money(row.prompt_per_million),
      cached_per_million: money(row.cached_per_million),
      completion_per_million: money(row.completion_per_million),
    };
  });
}
