/** For `drizzle-kit generate` only (README.md); nothing at run time reads it. Paths are from the repository's root. */
import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./schema/db/tables/*.ts",
  out: "./schema/db/migrations",
});
