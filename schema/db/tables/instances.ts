/** One engine of a group, on some of its GPUs. */
import { index, integer, pgTable, text } from "drizzle-orm/pg-core";
import { instanceGroups } from "./instance-groups.ts";

export const instances = pgTable(
  "instances",
  {
    instance: text().primaryKey(),
    group: text()
      .notNull()
      .references(() => instanceGroups.group),
    gpu_indices: integer().array().notNull(),
  },
  (t) => [index("instances_group").on(t.group)],
);
