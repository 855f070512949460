/**
 * Five projects. `schema`, `policy`, `gateway`, `cli` run in Node; `edge` runs inside workerd (edge/vitest.config.ts);
 * `system` runs the whole product. Project `gateway`, `cli` and `system` share one embedded Postgres (test/support/).
 */
import { defineConfig } from "vitest/config";

const node = (name: string, include: string[], extra: object = {}) => ({
  test: { name, include, environment: "node" as const, ...extra },
});

export default defineConfig({
  test: {
    projects: [
      node("schema", ["schema/**/*.test.ts"], {
        globalSetup: ["test/support/postgres-global.ts"],
        testTimeout: 60_000,
        hookTimeout: 60_000,
      }),
      node("policy", ["gpu-gateway/policy/**/*.test.ts", "gpu-gateway/engine-model/**/*.test.ts"]),
      node("gateway", ["gpu-gateway/{engines,ports,providers,runtime,server,node-agent,simulator}/**/*.test.ts", "gpu-gateway/*.test.ts"], {
        globalSetup: ["test/support/postgres-global.ts"],
        testTimeout: 30_000,
      }),
      node("cli", ["cli/**/*.test.ts", "sdk/**/*.test.ts", "test/contract/**/*.test.ts"]),
      "edge/vitest.config.ts",
      node("system", ["test/system/**/*.test.ts", "test/fault/**/*.test.ts"], {
        globalSetup: ["test/support/product-global.ts"],
        fileParallelism: false,
        testTimeout: 120_000,
        hookTimeout: 120_000,
      }),
    ],
  },
});
