/**
 * The isolate's main module: runs the user's default export for one run, and answers with JSON text whatever happens. Bundled, it is one
 * module that exports nothing but this frozen entrypoint (build.mjs): the user's code can import it, and change nothing by that. The
 * entrypoint is an object, so that no platform module is needed: those are closed to the isolate (edge/runtime/isolate.ts).
 */
import "./globals.ts";
import type { GuestInvocation, GuestResult } from "../../schema/core/wire/guest.ts";
import { makeCtx } from "./context.ts";
import { MillraceError } from "./error.ts";
import { toJson } from "./json.ts";
import { newScope, within, type Scope } from "./scope.ts";
import { Session, type Capabilities } from "./session.ts";

const DETAIL_CHARS_MAX = 2_000;

const PlainResponse = Response;

/** After the globals are made: they are what the user's module meets. */
const { default: exported } = await import("function.js");

export const Guest = Object.freeze({
  /**
   * A POST is a run, anything else asks whether the module is an agent at all, at deploy. When a run's request is aborted the runtime
   * drops its code, unless something keeps it: then it finds its session ended.
   */
  async fetch(request: Request, _env: unknown, ctx: { readonly props: unknown }): Promise<Response> {
    if (request.method !== "POST") return new PlainResponse(verdict());
    const session = new Session((await request.json()) as GuestInvocation, ctx.props as Capabilities);
    request.signal.addEventListener("abort", () => session.end(), { once: true });
    const scope = newScope(session, "");
    try {
      const result = await within(scope, () => invoke(scope));
      // Lines and events that were recorded are durable before the result is.
      await session.flush().catch(() => undefined);
      return new Response(result);
    } finally {
      session.end();
    }
  },
});

const verdict = (): string =>
  typeof exported === "function" ? "ok" : "The module's default export is not an agent: export default agent(async (ctx) => …).";

async function invoke(scope: Scope): Promise<string> {
  try {
    if (typeof exported !== "function") throw new MillraceError("function_invalid", "The module's default export is not an agent.");
    const output: unknown = await (exported as (ctx: unknown) => unknown)(makeCtx(scope));
    const json = toJson(output, "output");
    if (!json.ok) return answer({ ok: false, kind: "not_serializable", detail: json.detail });
    return `{"ok":true,"output":${json.text}}`;
  } catch (error) {
    return answer({ ok: false, kind: "threw", ...describe(error) });
  }
}

const answer = (result: GuestResult): string => JSON.stringify(result);

const thrown = (value: unknown): string =>
  typeof value === "string" ? value : `${value === null ? "null" : `a ${typeof value}`} that is no Error`;

/** The message, and the line of the user's own module that it came from. */
function describe(error: unknown): { detail: string; code?: string } {
  try {
    if (!(error instanceof Error)) return { detail: `threw ${thrown(error)}`.slice(0, DETAIL_CHARS_MAX) };
    const at = /function\.js:(\d+):(\d+)/.exec(String(error.stack));
    const where = at ? ` (function.js:${at[1]}:${at[2]})` : "";
    const message = error instanceof MillraceError ? error.message : `${error.name}: ${error.message}`;
    const detail = `${message.slice(0, DETAIL_CHARS_MAX)}${where}`;
    return error instanceof MillraceError ? { detail, code: error.code } : { detail };
  } catch {
    return { detail: "threw something that cannot be described" };
  }
}
