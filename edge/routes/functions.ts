/** Deploying functions. A deploy makes a version (the same code and configuration make the same one) and moves an alias to it. */
import { Hono } from "hono";
import { failure } from "../../schema/core/errors.ts";
import { deployRequest, type functionList, type functionVersion } from "../../schema/core/wire/http.ts";
import { CODE_BYTES_MAX } from "../../schema/core/wire/limits.ts";
import { deployVersion } from "../../schema/db/queries/functions/deploy-version.ts";
import { listFunctions } from "../../schema/db/queries/functions/list-functions.ts";
import type { z } from "zod";
import { withDatabase } from "../database.ts";
import { callerWith, jsonBody, Refusal, refuse, type App } from "../http.ts";
import { checkCode } from "../runtime/isolate.ts";

/** JSON may spend up to six characters on one of code (`\u0000`); what decodes to more than the limit is refused below. */
const DEPLOY_BODY_BYTES_MAX = 2 * CODE_BYTES_MAX;

export const functions = new Hono<App>();

functions.post("/v1/functions", async (c) => {
  const { tenant, project } = await callerWith(c, "deploy");
  const { name, code, config, alias } = await jsonBody(c, deployRequest, DEPLOY_BODY_BYTES_MAX);
  if (code.includes("\0")) refuse("invalid_request", "code: contains a NUL character", "code");
  if (new TextEncoder().encode(code).length > CODE_BYTES_MAX)
    refuse("body_too_large", `A function's code has at most ${CODE_BYTES_MAX} bytes.`);
  for (const host of config.egress) {
    if (!canMatch(host)) {
      const wanted = "is not a host name, or a host name with a port (443 and 80 need none)";
      throw new Refusal(failure("invalid_request", `config.egress: "${host}" ${wanted}`, "config.egress"));
    }
  }
  const fault = await checkCode(c.env, code);
  if (fault) throw new Refusal(fault);
  const { created, ...version } = await withDatabase(c.env.DB, (sql) => deployVersion(sql, { tenant, project, name, code, config, alias }));
  return c.json(version satisfies z.infer<typeof functionVersion>, created ? 201 : 200);
});

const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
const HOST = new RegExp(`^${LABEL}(?:\\.${LABEL})*(?::[0-9]{1,5})?$`);

/** Whether some URL has the host as it stands here: the parser drops a default port, and spells addresses anew. */
function canMatch(host: string): boolean {
  const entry = host.toLowerCase();
  return HOST.test(entry) && ["https:", "http:"].every((protocol) => URL.parse(`${protocol}//${entry}`)?.host === entry);
}

functions.get("/v1/functions", async (c) => {
  const { tenant, project } = await callerWith(c, "deploy");
  const found = await withDatabase(c.env.DB, (sql) => listFunctions(sql, { tenant, project }));
  return c.json({ functions: found } satisfies z.infer<typeof functionList>);
});
