/** Up to when each cell's usage is complete. Only ever moves forward. */
import { pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { integer38 } from "./types.ts";

export const watermarks = pgTable("watermarks", {
  cell: text().primaryKey(),
  through_ns: integer38().notNull(),
  moved_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
});
