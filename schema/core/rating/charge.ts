/** Charge: what a plan makes of usage (D5). Here the plan per token: prompt, cached prompt and completion have prices of their own. */
import { type NanoMoney, mulDivRound, nanoMoney } from "../money.ts";
import type { TokenPrice } from "./prices.ts";

export const TOKENS_PER_PRICE = 1_000_000n;

/** `prompt` holds the cached ones too, as engines report it: prompt = cached + uncached. */
export type Tokens = { readonly prompt: bigint; readonly cached: bigint; readonly completion: bigint };

/** Over TOKENS_PER_PRICE: exact, for sums that are rounded once (apportion.ts). */
export function chargeNumerator(tokens: Tokens, price: TokenPrice): bigint {
  return (
    (tokens.prompt - tokens.cached) * price.prompt_per_million +
    tokens.cached * price.cached_per_million +
    tokens.completion * price.completion_per_million
  );
}

export const chargeOf = (tokens: Tokens, price: TokenPrice): NanoMoney =>
  nanoMoney(mulDivRound(chargeNumerator(tokens, price), 1n, TOKENS_PER_PRICE));
