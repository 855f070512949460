/**
 * The isolate's globals, before the user's module is evaluated: `console` writes to the log of the run that is current,
 * `fetch` goes the way out that the run was given, timers end with their run, a captured context is in the name of the run that enters it,
 * and what would go another way or last longer than a run is not there at all (I10).
 */
import { MillraceError } from "./error.ts";
import { writeLog } from "./context.ts";
import { currentScope, currentSession, keepScopeInCapturedContexts } from "./scope.ts";
import { endTimersWithTheirRun } from "./timers.ts";
import { removeGlobal, replaceGlobal } from "./replace-global.ts";

const LEVELS = { debug: "debug", log: "info", info: "info", warn: "warn", error: "error", trace: "debug" } as const;

for (const [method, level] of Object.entries(LEVELS)) {
  (console as unknown as Record<string, unknown>)[method] = (...parts: unknown[]) => {
    const scope = currentScope();
    if (scope) writeLog(scope, level, parts.map(show).join(" "));
  };
}

function show(part: unknown): string {
  if (typeof part === "string") return part;
  if (part instanceof Error) return `${part.name}: ${part.message}`;
  try {
    return JSON.stringify(part) ?? String(part);
  } catch {
    return String(part);
  }
}

/** Set by the egress entrypoint on its refusals; no other host can set it, for the entrypoint removes it. */
const FORBIDDEN_HEADER = "x-millrace-egress-forbidden";

const runFetch: typeof fetch = async (input, init) => {
  const session = currentSession();
  if (!session) throw new MillraceError("capability_denied", "fetch works only while a run is going on.");
  const request = new Request(input, init);
  const { host } = new URL(request.url);
  if (session.invocation.egress.length === 0) {
    throw new MillraceError("egress_forbidden", `The function may not fetch ${host}: its egress list is empty.`);
  }
  const answer = await session.fetch(request);
  const refused = answer.headers.get(FORBIDDEN_HEADER);
  if (refused !== null) throw new MillraceError("egress_forbidden", `The function may not fetch ${refused}: it is not in its egress list.`);
  return answer;
};

replaceGlobal("fetch", () => runFetch);
/** The isolate has no network of its own, so that these reach nothing; but an open socket, even to itself, outlives the run's answer. */
const ABSENT = ["caches", "WebSocket", "WebSocketPair", "WebSocketRequestResponsePair", "EventSource"];
for (const name of ABSENT) removeGlobal(name);
/** It sends after the answer: the platform keeps the run's code for it. */
Reflect.deleteProperty(Object.getPrototypeOf(navigator) as object, "sendBeacon");
endTimersWithTheirRun();
keepScopeInCapturedContexts();
