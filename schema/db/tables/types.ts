/** Column types of our own. Money and nanoseconds are integers of up to 38 digits, bigint here, never `number`. */
import { customType } from "drizzle-orm/pg-core";

/** NUMERIC(38,0): money in nano-units, nanoseconds, GPU-nanoseconds, instants in UTC nanoseconds. */
export const integer38 = customType<{ data: bigint; driverData: string }>({
  dataType: () => "numeric(38,0)",
  fromDriver: (value) => BigInt(value),
  toDriver: (value) => value.toString(),
});
