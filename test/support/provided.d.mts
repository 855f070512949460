/** What the global setups of project `edge` provide, for `inject`: types alone, so that code typed for workerd can name them. */
import type { EdgePostgres } from "./edge-postgres-main.ts";

declare module "vitest" {
  interface ProvidedContext {
    link_peer: { url: string; cell_secret: string };
    edge_postgres: EdgePostgres;
    /** The same site under two host names, and a server that says nothing. */
    origin: { allowed: string; other: string; silent_port: number };
  }
}
