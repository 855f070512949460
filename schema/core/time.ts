/**
 * Three clocks, three types.
 *  - `Micros`: policy time, integer microseconds since the cell's epoch began; a number, exact to 285 years.
 *  - `Nanos`: metering time and durations, bigint nanoseconds; as an instant, UTC nanoseconds since 1970.
 *  - `*_ms` numbers: wire fields and configuration, milliseconds.
 */
declare const brand: unique symbol;
export type Micros = number & { readonly [brand]: "micros" };
export type Nanos = bigint & { readonly [brand]: "nanos" };

export const micros = (value: number): Micros => Math.round(value) as Micros;
export const microsFromMs = (ms: number): Micros => Math.round(ms * 1_000) as Micros;
export const nanos = (value: bigint): Nanos => value as Nanos;
export const nanosFromMs = (ms: number): Nanos => (BigInt(Math.round(ms)) * 1_000_000n) as Nanos;

export const NANOS_PER_SECOND = 1_000_000_000n;
export const NANOS_PER_MINUTE = 60_000_000_000n;

/** The UTC minute (floor) an instant lies in, as the instant at which the minute begins. */
export function minuteOf(instant: Nanos): Nanos {
  return (instant - (instant % NANOS_PER_MINUTE)) as Nanos;
}

/** RFC 3339 with nanoseconds and `Z`. */
export function formatInstant(instant: Nanos): string {
  const seconds = instant / NANOS_PER_SECOND;
  const rest = instant % NANOS_PER_SECOND;
  const base = isoSeconds(seconds);
  return `${base}.${rest.toString().padStart(9, "0")}Z`;
}

/** GPU-nanoseconds as GPU-seconds with nine decimals, exact. */
export function formatGpuSeconds(gpu_ns: bigint): string {
  const sign = gpu_ns < 0n ? "-" : "";
  const abs = gpu_ns < 0n ? -gpu_ns : gpu_ns;
  return `${sign}${abs / NANOS_PER_SECOND}.${(abs % NANOS_PER_SECOND).toString().padStart(9, "0")}`;
}

/** Civil date from days since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms"): no `Date` in the pure part. */
function isoSeconds(seconds: bigint): string {
  const day = 86_400n;
  const days = (seconds - (((seconds % day) + day) % day)) / day;
  const within = Number(seconds - days * day);
  const z = Number(days) + 719_468;
  const era = Math.floor(z / 146_097);
  const doe = z - era * 146_097;
  const yoe = Math.floor((doe - Math.floor(doe / 1_460) + Math.floor(doe / 36_524) - Math.floor(doe / 146_096)) / 365);
  const doy = doe - (365 * yoe + Math.floor(yoe / 4) - Math.floor(yoe / 100));
  const mp = Math.floor((5 * doy + 2) / 153);
  const d = doy - Math.floor((153 * mp + 2) / 5) + 1;
  const m = mp < 10 ? mp + 3 : mp - 9;
  const y = yoe + era * 400 + (m <= 2 ? 1 : 0);
  const two = (n: number) => n.toString().padStart(2, "0");
  return `${y}-${two(m)}-${two(d)}T${two(Math.floor(within / 3_600))}:${two(Math.floor(within / 60) % 60)}:${two(within % 60)}`;
}
