/**
 * Divides money over rows so that they add up to the total exactly: the total is rounded once (half to even, money.ts), each row gets
 * its exact share rounded down, and what is left goes, one nano-unit each, to the rows with the largest remainders; ties to the
 * row that stands first. No row is further than one nano-unit from its exact share, and none is negative unless its share is.
 */
import { type NanoMoney, mulDivRound, nanoMoney } from "../money.ts";

/** `numerators[i] ÷ denominator` is row i's exact share. */
export function apportion(
  numerators: readonly bigint[],
  denominator: bigint,
): { readonly total: NanoMoney; readonly rows: readonly NanoMoney[] } {
  const total = mulDivRound(
    numerators.reduce((sum, n) => sum + n, 0n),
    1n,
    denominator,
  );
  const shares = numerators.map((numerator, place) => {
    const remainder = ((numerator % denominator) + denominator) % denominator;
    return { place, floor: (numerator - remainder) / denominator, remainder };
  });
  // Floors lose less than one each, so between none and all of the rows get one more.
  const missing = total - shares.reduce((sum, share) => sum + share.floor, 0n);
  const by_remainder = shares.toSorted((a, b) => (a.remainder > b.remainder ? -1 : a.remainder < b.remainder ? 1 : a.place - b.place));
  const raised = new Set(by_remainder.slice(0, Number(missing)).map((share) => share.place));
  return { total: nanoMoney(total), rows: shares.map((share) => nanoMoney(share.floor + (raised.has(share.place) ? 1n : 0n))) };
}
