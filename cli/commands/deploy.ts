import { basename, extname } from "node:path";
import { functionVersion } from "../../schema/core/wire/http.ts";
import { bundle } from "../bundle.ts";
import { read, request, type Connection } from "../connection.ts";

export type DeployOptions = {
  readonly name?: string;
  readonly egress?: readonly string[];
  readonly timeout_ms?: number;
  readonly alias?: string;
  readonly isolation?: "version" | "run";
};

/** Bundles `file` and deploys it; the same code and configuration make the same version. */
export async function deploy(connection: Connection, file: string, options: DeployOptions) {
  const answer = await request(connection, "POST", "/v1/functions", {
    body: {
      name: options.name ?? basename(file, extname(file)),
      code: await bundle(file),
      config: {
        ...(options.timeout_ms === undefined ? {} : { timeout_ms: options.timeout_ms }),
        ...(options.egress === undefined ? {} : { egress: options.egress }),
        ...(options.isolation === undefined ? {} : { isolation: options.isolation }),
      },
      ...(options.alias === undefined ? {} : { alias: options.alias }),
    },
  });
  return read(answer, functionVersion);
}
