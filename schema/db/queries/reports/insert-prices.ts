/** Adds price rows; one that is there already (same id) stays as it is. */
import type { PriceRow } from "../../../core/rating/prices.ts";
import { type Db, arrayOf } from "../../sql.ts";

export async function insertPrices(sql: Db, prices: readonly PriceRow[]): Promise<void> {
  await sql`
    insert into prices (
      price, kind, cell, gpu_type, model, currency, version, effective_from_ns,
      per_gpu_hour, prompt_per_million, cached_per_million, completion_per_million, note
    )
    select * from unnest(
      ${arrayOf(prices.map((p) => p.price))}::text[],
      ${arrayOf(prices.map((p) => p.kind))}::text[],
      ${arrayOf(prices.map((p) => (p.kind === "gpu_hour" ? p.cell : "*")))}::text[],
      ${arrayOf(prices.map((p) => (p.kind === "gpu_hour" ? p.gpu_type : "*")))}::text[],
      ${arrayOf(prices.map((p) => (p.kind === "tokens" ? p.model : "*")))}::text[],
      ${arrayOf(prices.map((p) => p.currency))}::text[],
      ${arrayOf(prices.map((p) => p.version))}::int[],
      ${arrayOf(prices.map((p) => p.effective_from_ns))}::numeric[],
      ${arrayOf(prices.map((p) => (p.kind === "gpu_hour" ? p.per_gpu_hour : null)))}::numeric[],
      ${arrayOf(prices.map((p) => (p.kind === "tokens" ? p.prompt_per_million : null)))}::numeric[],
      ${arrayOf(prices.map((p) => (p.kind === "tokens" ? p.cached_per_million : null)))}::numeric[],
      ${arrayOf(prices.map((p) => (p.kind === "tokens" ? p.completion_per_million : null)))}::numeric[],
      ${arrayOf(prices.map((p) => p.note))}::text[]
    )
    on conflict (price) do nothing`;
}
