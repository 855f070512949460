/** Who is billed. A tenant has projects; everything else hangs on one of the two. */
import { pgTable, text, timestamp } from "drizzle-orm/pg-core";

export const tenants = pgTable("tenants", {
  tenant: text().primaryKey(),
  name: text().notNull(),
  created_at: timestamp({ withTimezone: true }).notNull().defaultNow(),
});
