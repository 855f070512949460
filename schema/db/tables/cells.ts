/** One row a cell: who holds its lease, under which epoch, until when (I13). Changed only by queries/cells/*. */
import { bigint, pgTable, text, timestamp } from "drizzle-orm/pg-core";

export const cells = pgTable("cells", {
  cell: text().primaryKey(),
  epoch: bigint({ mode: "number" }).notNull(),
  /** The gateway instance that holds it, or held it last. */
  owner: text().notNull(),
  acquired_at: timestamp({ withTimezone: true }).notNull(),
  expires_at: timestamp({ withTimezone: true }).notNull(),
});
