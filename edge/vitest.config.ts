/**
 * Project `edge`: tests inside workerd, with the Worker of wrangler.toml, its objects and its loader; a real Postgres and a peer
 * that speaks the gateway's end of the link run beside it, in processes of their own (test/support/).
 */
import { fileURLToPath } from "node:url";
import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [
    cloudflareTest(({ inject }) => {
      const peer = inject<{ url: string; cell_secret: string }>("link_peer");
      const postgres = inject<{ url: string }>("edge_postgres");
      return {
        wrangler: { configPath: at("../wrangler.toml") },
        miniflare: {
          bindings: { GATEWAY_URL: peer.url, MILLRACE_CELL_SECRET: peer.cell_secret, MILLRACE_ENV: "test" },
          hyperdrives: { DB: postgres.url, DB_CACHED: postgres.url },
        },
      };
    }),
  ],
  test: {
    name: "edge",
    root: at(".."),
    include: ["edge/**/*.test.ts"],
    globalSetup: [
      at("../test/support/link-peer-global.ts"),
      at("../test/support/edge-postgres-global.ts"),
      at("../test/support/origin-global.ts"),
    ],
    // The files of the cache are read from inside workerd, where one that another run replaces is an error.
    fsModuleCache: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
