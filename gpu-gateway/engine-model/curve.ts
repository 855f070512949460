/** A function of one number, drawn through points: straight between them, level before the first, the last segment's slope after the last. */
export type Curve = readonly (readonly [x: number, y: number])[];

export function valueAt(curve: Curve, x: number): number {
  let [low, high] = [0, curve.length - 1];
  const first = curve[0];
  if (first === undefined) return 0;
  if (x <= first[0] || high === 0) return first[1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((curve[middle]?.[0] ?? 0) <= x) low = middle;
    else high = middle;
  }
  const [a, b] = [curve[low] ?? first, curve[high] ?? first];
  return a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]);
}

/** x counted in other units: `per` old ones make a new one. */
export function rescaled(curve: Curve, per: number): Curve {
  return curve.map(([x, y]) => [x / per, y]);
}

/** The sum of curves, each taken `times` so often: straight between the points of all of them, from `from` on. */
export function sumOf(terms: readonly { readonly curve: Curve; readonly times: number }[], from: number): Curve {
  const used = terms.filter((term) => term.times > 0);
  const xs = new Set([from, ...used.flatMap((term) => term.curve.map(([x]) => x)).filter((x) => x > from)]);
  return [...xs].toSorted((a, b) => a - b).map((x) => [x, used.reduce((sum, { curve, times }) => sum + times * valueAt(curve, x), 0)]);
}
