/**
 * Money is an integer number of nano-units of a currency (1 EUR = 1,000,000,000 nano), as bigint.
 * No JavaScript `number` ever holds money: on the wire it is a decimal string.
 */
declare const brand: unique symbol;
export type NanoMoney = bigint & { readonly [brand]: "nano-money" };
export type Currency = "EUR" | "USD" | "GBP" | "CHF";

export const NANO_PER_UNIT = 1_000_000_000n;
/** NUMERIC(38,0) in Postgres holds it; beyond it input is refused. */
export const MONEY_MAX = 10n ** 36n;

export const nanoMoney = (value: bigint): NanoMoney => value as NanoMoney;

export type MoneyParse = { ok: true; value: NanoMoney } | { ok: false; reason: "not_a_decimal" | "too_many_decimals" | "too_large" };

/** Parses a plain decimal ("12.50", "-0.000000001"); no exponent, no thousands sign, at most nine decimals. */
export function parseMoney(text: string): MoneyParse {
  const match = /^(-?)(\d{1,40})(?:\.(\d{1,40}))?$/.exec(text);
  if (!match) return { ok: false, reason: "not_a_decimal" };
  const [, sign, whole = "0", fraction = ""] = match;
  if (fraction.length > 9) return { ok: false, reason: "too_many_decimals" };
  const value = BigInt(whole) * NANO_PER_UNIT + BigInt(fraction.padEnd(9, "0"));
  if (value > MONEY_MAX) return { ok: false, reason: "too_large" };
  return { ok: true, value: nanoMoney(sign ? -value : value) };
}

/** The shortest plain decimal that is exact: "0.000001", "12.5", "3". */
export function formatMoney(value: bigint): string {
  const sign = value < 0n ? "-" : "";
  const abs = value < 0n ? -value : value;
  const fraction = (abs % NANO_PER_UNIT).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${abs / NANO_PER_UNIT}${fraction ? `.${fraction}` : ""}`;
}

/** `amount × numerator ÷ denominator`, rounded half to even: the one rounding rule of the project. */
export function mulDivRound(amount: bigint, numerator: bigint, denominator: bigint): bigint {
  if (denominator <= 0n) throw new RangeError("mulDivRound needs a positive denominator");
  const product = amount * numerator;
  const negative = product < 0n;
  const abs = negative ? -product : product;
  const quotient = abs / denominator;
  const twice = (abs % denominator) * 2n;
  const up = twice > denominator || (twice === denominator && quotient % 2n === 1n);
  const rounded = up ? quotient + 1n : quotient;
  return negative ? -rounded : rounded;
}
