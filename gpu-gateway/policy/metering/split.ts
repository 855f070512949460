/**
 * Splits an integer by integer weights so that the parts add up to it, exactly (I1): each gets the floor of its share, and
 * what is left goes one by one to the largest remainders; equal remainders go by id (I9).
 */
export type Weighted = { readonly id: string; readonly weight: bigint };

/** Parts in the order of `legs`. `legs` is not empty, weights are positive, `total` is not negative. */
export function splitByWeight(total: bigint, legs: readonly Weighted[]): bigint[] {
  if (legs.length === 1) return [total];
  let sum = 0n;
  for (const leg of legs) sum += leg.weight;
  if (sum <= 0n || total < 0n) throw new RangeError("splitByWeight needs positive weights and a total that is not negative");
  const parts: bigint[] = [];
  const remainders: bigint[] = [];
  let left = total;
  for (const leg of legs) {
    const product = total * leg.weight;
    const part = product / sum;
    parts.push(part);
    remainders.push(product - part * sum);
    left -= part;
  }
  if (left === 0n) return parts;
  const order = legs.map((_, index) => index);
  order.sort((a, b) => byRemainderThenId(legs, remainders, a, b));
  for (const index of order.slice(0, Number(left))) parts[index] = (parts[index] ?? 0n) + 1n;
  return parts;
}

function byRemainderThenId(legs: readonly Weighted[], remainders: readonly bigint[], a: number, b: number): number {
  const ra = remainders[a] ?? 0n;
  const rb = remainders[b] ?? 0n;
  if (ra !== rb) return ra > rb ? -1 : 1;
  const ia = legs[a]?.id ?? "";
  const ib = legs[b]?.id ?? "";
  return ia < ib ? -1 : ia > ib ? 1 : 0;
}
