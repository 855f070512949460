/** Figures as people read them. */
export const ms = (us: number | null | undefined): string => {
  if (us === null || us === undefined) return "–";
  const value = us / 1_000;
  return value >= 10_000 ? `${(value / 1_000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
};
export const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
export const money = (amount: number | null, currency: string): string =>
  amount === null ? "–" : `${amount.toFixed(amount < 10 ? 3 : 2)} ${currency}`;
export const rate = (per_s: number): string => (per_s >= 100 ? per_s.toFixed(0) : per_s.toPrecision(3));
export const times = (multiple: number): string => `×${multiple >= 100 ? multiple.toFixed(0) : multiple.toPrecision(3)}`;
export const plural = (n: number, one: string): string => `${n} ${one}${n === 1 ? "" : "s"}`;
