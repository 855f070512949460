/**
 * Splits an integer by integer weights so that the parts add up to it, exactly (I1): each gets the floor of its share, and
 * what is left goes one by one to the largest remainders; equal remainders go by id (I9).
 *
 * It runs for every leg of an instance whenever one joins or leaves. So it computes in doubles where they are exact, which is
 * nearly always, and sorts nothing that is in order already.
 */
export type Weighted = { readonly id: string; readonly weight: number };

/** Below it, products are exact, and a quotient of two integers rounds down to its floor. */
const EXACT_MAX = 2 ** 52;

/** Parts in the order of `legs`. `legs` is not empty, weights are positive integers, `total` is a safe integer and not negative. Cheapest in order of ids. */
export function splitByWeight(total: number, legs: readonly Weighted[]): number[] {
  if (legs.length === 1) return [total];
  let sum = 0;
  let heaviest = 0;
  for (const { weight } of legs) {
    if (!(weight > 0)) throw new RangeError("splitByWeight needs positive weights");
    sum += weight;
    if (weight > heaviest) heaviest = weight;
  }
  if (!(total >= 0 && total <= Number.MAX_SAFE_INTEGER)) throw new RangeError("splitByWeight needs a safe total that is not negative");
  const exact = sum <= EXACT_MAX && total * heaviest <= EXACT_MAX;
  return exact ? splitInDoubles(total, sum, legs) : splitInBigInts(BigInt(total), legs);
}

function splitInDoubles(total: number, sum: number, legs: readonly Weighted[]): number[] {
  const parts: number[] = [];
  const remainders: number[] = [];
  let left = total;
  for (const { weight } of legs) {
    const product = total * weight;
    const part = Math.floor(product / sum);
    parts.push(part);
    remainders.push(product - part * sum);
    left -= part;
  }
  if (left > 0) giveRest(left, parts, remainders, legs);
  return parts;
}

function splitInBigInts(total: bigint, legs: readonly Weighted[]): number[] {
  let sum = 0n;
  for (const { weight } of legs) sum += BigInt(weight);
  const parts: number[] = [];
  const remainders: bigint[] = [];
  let left = total;
  for (const { weight } of legs) {
    const product = total * BigInt(weight);
    const part = product / sum;
    parts.push(Number(part));
    remainders.push(product - part * sum);
    left -= part;
  }
  if (left > 0n) giveRest(Number(left), parts, remainders, legs);
  return parts;
}

/** One each to the `rest` largest remainders. */
function giveRest(rest: number, parts: number[], remainders: readonly number[] | readonly bigint[], legs: readonly Weighted[]): void {
  const order = inOrderOfIds(legs);
  // Equal weights have equal remainders: then ids alone decide.
  if (!allEqual(remainders)) order.sort((a, b) => descending(remainders[a], remainders[b]));
  for (const index of order.slice(0, rest)) parts[index] = (parts[index] ?? 0) + 1;
}

function inOrderOfIds(legs: readonly Weighted[]): number[] {
  const order = legs.map((_, index) => index);
  const id = (index: number): string => legs[index]?.id ?? "";
  if (order.some((index) => index > 0 && id(index - 1) > id(index))) order.sort((a, b) => (id(a) < id(b) ? -1 : id(a) > id(b) ? 1 : 0));
  return order;
}

const allEqual = (values: readonly (number | bigint)[]): boolean => values.every((value) => value === values[0]);

const descending = (a: number | bigint | undefined, b: number | bigint | undefined): number =>
  a === undefined || b === undefined || a === b ? 0 : a > b ? -1 : 1;
