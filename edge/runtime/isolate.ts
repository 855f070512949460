/**
 * User code in an isolate of its own (D8, I10). The loader's id names the tenant, the function, the code and its configuration, so
 * tenants never share one (I3); `env` is empty; the network is absent, and what a run may reach of it is a capability of the run's own;
 * of the platform's modules there is `node:async_hooks`, the others are closed.
 */
import { ERRORS, failure, type ErrorCode, type Failure } from "../../schema/core/errors.ts";
import { hashParts, sha256Hex } from "../../schema/core/hash.ts";
import { RESULT_BYTES_MAX, type GuestInvocation } from "../../schema/core/wire/guest.ts";
import type { Env } from "../env.ts";
import type { CapabilityProps } from "./capabilities.ts";
import type { EgressProps } from "./egress.ts";
import type { FunctionCode, FunctionConfig } from "./execution.ts";
import { GUEST_MAIN, GUEST_MODULES } from "./guest-modules.ts";
import { bad, good, type Result } from "./result.ts";

const COMPATIBILITY_DATE = "2026-10-01";
/** Node's modules have sockets and timers of their own, and are the default of the date. `ctx.exports` would be the isolate's own stubs. */
const COMPATIBILITY_FLAGS = ["nodejs_als", "no_nodejs_compat", "no_nodejs_compat_v2", "disable_ctx_exports", "enable_request_signal"];
/**
 * The platform's modules, by a name that hides each from whoever imports it, by whatever expression: they hold `waitUntil`, which goes on
 * after the run, `abortIsolate`, which ends the runs of others, and sockets. One way to them the platform leaves open: `node:process` cannot
 * be hidden, and its `getBuiltinModule` passes by names. So they are not what keeps a run's end (runtime/egress.ts).
 */
const CLOSED = [
  ...["workers", "sockets", "email", "workflows", "node", "durable-objects", "vectorize", "pipelines", "br", "ai", "tracing"].map(
    (name) => `cloudflare:${name}`,
  ),
  ...["unsafe", "unsafe-eval", "rtti"].map((name) => `workerd:${name}`),
];
const closed = (name: string): string => `The code imports "${name}", which functions cannot; ctx has what a function may use.`;
const CLOSED_MODULES = Object.fromEntries(CLOSED.map((name) => [name, { js: `throw new Error(${JSON.stringify(closed(name))});\n` }]));
/** CPU, not wall time; enforced by the platform, not by local workerd. */
const CPU_MS_MAX = 30_000;
const SUBREQUESTS_MAX = 1_000;
/** The largest result in its envelope: what a guest sends beyond it is not read (I8). */
const ANSWER_BYTES_MAX = RESULT_BYTES_MAX + 4_096;

class AnswerTooLarge extends Error {}

/** The Worker's own entry points, as loopback stubs with props. */
type Loopback = {
  readonly AI: (options: { props: CapabilityProps }) => Fetcher;
  readonly MemoryCapability: (options: { props: CapabilityProps }) => Fetcher;
  readonly CallCapability: (options: { props: CapabilityProps }) => Fetcher;
  readonly JournalCapability: (options: { props: CapabilityProps }) => Fetcher;
  readonly Egress: (options: { props: EgressProps }) => Fetcher;
};

const harness_hash = sha256Hex(JSON.stringify(GUEST_MODULES));

export function isolateId(tenant: string, function_id: string, code: FunctionCode): string {
  return hashParts("isolate", tenant, function_id, code.hash, code.config_hash, harness_hash);
}

function workerCode(source: string): WorkerLoaderWorkerCode {
  return {
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: COMPATIBILITY_FLAGS,
    mainModule: GUEST_MAIN,
    modules: { ...GUEST_MODULES, ...CLOSED_MODULES, "function.js": { js: source } },
    env: {},
    globalOutbound: null,
    limits: { cpuMs: CPU_MS_MAX, subRequests: SUBREQUESTS_MAX },
  };
}

export type IsolateRequest = {
  readonly ctx: DurableObjectState;
  readonly env: Env;
  readonly tenant: string;
  readonly function: string;
  readonly code: FunctionCode;
  readonly config: FunctionConfig;
  readonly props: CapabilityProps;
  readonly invocation: GuestInvocation;
  /** Aborted: the guest is stopped where it stands. */
  readonly signal: AbortSignal;
};

/**
 * Resolves to the guest's answer as it sent it: unverified text; or to a failure of ours, and then nothing of the guest's was executed.
 * Rejects when the isolate could not run it.
 */
export async function runInIsolate(request: IsolateRequest): Promise<Result<string>> {
  const { ctx, env, code, config, props } = request;
  const loopback = ctx.exports as unknown as Loopback;
  const id = isolateId(request.tenant, request.function, code);
  for (let again = false; ; again = true) {
    let asked = false;
    const load = async () => {
      asked = true;
      const source = await code.load();
      if (!source.ok) throw new Error(notLoaded(env, source.error.code));
      return workerCode(source.value);
    };
    const name = names.get(id) ?? id;
    try {
      const worker = config.isolation === "run" ? env.LOADER.load(await load()) : env.LOADER.get(name, load);
      const guest = worker.getEntrypoint("Guest", {
        props: {
          ai: loopback.AI({ props }),
          memory: loopback.MemoryCapability({ props }),
          call: loopback.CallCapability({ props }),
          journal: loopback.JournalCapability({ props }),
          ...(config.egress.length === 0 ? {} : { egress: loopback.Egress({ props: { ...props, hosts: config.egress } }) }),
        },
      });
      const body = JSON.stringify(request.invocation);
      const answer = await guest.fetch("https://guest/", { method: "POST", body, signal: request.signal });
      return good(await readAnswer(answer, request.signal));
    } catch (error) {
      const failed = codeNotLoaded(env, error);
      if (failed === undefined) {
        // The loader would hand the broken isolate to all who come after.
        if (isBroken(error)) rename(id, name);
        throw error;
      }
      rename(id, name);
      // Somebody else's attempt failed, perhaps long ago: this one has not asked for the code yet.
      if (asked || again) return bad(failed, "The function's code could not be read.");
    }
  }
}

/** The isolate is gone, by a guest's `abortIsolate` or by a fault of the runtime's, and whoever was in it; only the runtime says so in these words. */
const isBroken = (error: unknown): boolean => error instanceof Error && error.message.startsWith("internal error; reference");

/** The loader keeps a callback's failure under its name for good: then the isolate gets another. Beyond the limit the oldest get theirs back. */
const names = new Map<string, string>();
const NAMES_MAX = 1_000;

function rename(id: string, failed: string): void {
  if ((names.get(id) ?? id) !== failed) return; // it has another already
  names.delete(id);
  if (names.size >= NAMES_MAX) names.delete(names.keys().next().value ?? "");
  names.set(id, `${id}/${crypto.randomUUID()}`);
}

/**
 * What the loader's callback throws where the code could not be read. The runtime hands it, as text alone, to all who ask for the
 * isolate, in whatever process of ours; a guest, whose words may be in an error too, cannot know it.
 */
const notLoaded = (env: Env, code: ErrorCode): string => `${hashParts("not loaded", env.MILLRACE_CELL_SECRET)} ${code}`;

function codeNotLoaded(env: Env, error: unknown): ErrorCode | undefined {
  if (!(error instanceof Error)) return undefined;
  const at = error.message.indexOf(notLoaded(env, "" as ErrorCode));
  const code = at === -1 ? undefined : /^\w+ (\w+)/.exec(error.message.slice(at))?.[1];
  return code !== undefined && code in ERRORS ? (code as ErrorCode) : undefined;
}

/** A guest may have made its own answer, endless or silent: the reading ends at the limit, and with the run. */
async function readAnswer(answer: Response, signal: AbortSignal): Promise<string> {
  if (!answer.body) return "";
  const reader = answer.body.getReader();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(new Error("the run is over"));
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), aborted.promise]);
      if (done) return text + decoder.decode();
      bytes += value.byteLength;
      if (bytes > ANSWER_BYTES_MAX) throw new AnswerTooLarge();
      text += decoder.decode(value, { stream: true });
    }
  } catch (error) {
    // What is left of the body has no reader: its failure is nobody's.
    reader.cancel(error).catch(() => {});
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** An import that the runtime would refuse only when it comes to it, or not at all. Text that merely looks like one is refused too. */
const CLOSED_IMPORT = /\b(?:import|from)\b\s*\(?\s*["'`]((?:cloudflare:|workerd:|node:process\b)[\w-]*)["'`]/;

/** Whether the code loads and is an agent; asked at deploy, in an isolate that is thrown away. */
export async function checkCode(env: Env, source: string): Promise<Failure | undefined> {
  const closed_import = CLOSED_IMPORT.exec(source)?.[1];
  if (closed_import !== undefined) return failure("function_invalid", closed(closed_import));
  try {
    const guest = env.LOADER.load(workerCode(source)).getEntrypoint("Guest");
    const verdict = await readAnswer(await guest.fetch("https://guest/"), new AbortController().signal);
    // The code may have written the verdict: it deceives itself alone.
    return verdict === "ok" ? undefined : failure("function_invalid", verdict.slice(0, MESSAGE_CHARS_MAX));
  } catch (error) {
    return failure("function_invalid", invalid(cleanMessage(error)));
  }
}

/** Why the module does not load; an import of what is closed, by name, the runtime would only call an export that is missing. */
function invalid(message: string): string {
  const name = /(?:requested module|No such module|The code imports) ['"]((?:cloudflare|workerd):[^'"]+)/.exec(message)?.[1];
  return name === undefined ? message : closed(name);
}

/** What the runtime said of an isolate that failed, for a person: no stack, no path of the host. */
export function isolateFailure(error: unknown): Failure {
  if (error instanceof AnswerTooLarge) {
    return failure("result_not_serializable", `The output is too large; the limit is ${RESULT_BYTES_MAX}.`);
  }
  if (isBroken(error)) return failure("internal", "The function's isolate broke; the next run gets another.");
  const message = cleanMessage(error);
  if (/code had hung/.test(message)) {
    return failure("function_timeout", "The function can never settle: it awaits something that nothing is left to resolve.");
  }
  if (/SyntaxError|No such module|does not provide an export|Failed to start/i.test(message))
    return failure("function_invalid", invalid(message));
  return failure("function_threw", `The function's isolate was stopped: ${message}`);
}

const MESSAGE_CHARS_MAX = 1_000;

function cleanMessage(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text
    .split("\n")
    .filter((line) => !/^\s+at /.test(line))
    .join(" ")
    .replace(/(?:file:\/\/)?(?:\/[\w.@-]+){2,}\/?/g, "")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, MESSAGE_CHARS_MAX);
}
