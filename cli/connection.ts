/** Which Millrace the command talks to, and as whom: flags, then the environment, then the product running in this folder. */
import { z } from "zod";
import { DEFAULT_STATE, StateFolder } from "./dev/state.ts";
import { firstLine, reason } from "./reason.ts";

export type ConnectionFlags = { readonly url?: string; readonly key?: string; readonly state?: string };
export type Connection = { readonly url: string; readonly key: string };

export class UsageFault extends Error {}

export function resolveConnection(flags: ConnectionFlags, env: NodeJS.ProcessEnv): Connection {
  const state = new StateFolder(flags.state ?? (env["MILLRACE_STATE"] || DEFAULT_STATE));
  // A state folder that is named by a flag says which product is meant, whatever the environment says.
  const { MILLRACE_URL, MILLRACE_KEY } = flags.state === undefined ? env : {};
  const url = flags.url ?? (MILLRACE_URL || state.readRun()?.edge?.url);
  if (!url)
    throw new UsageFault(
      `no Millrace runs from ${state.path}; run \`npm start\`, name its folder with --state DIR, or another Millrace with --url or MILLRACE_URL.`,
    );
  const key = flags.key ?? (MILLRACE_KEY || keyIn(state));
  if (!key) throw new UsageFault("no API key; name one with --key or MILLRACE_KEY.");
  return { url: url.replace(/\/$/, ""), key };
}

function keyIn(state: StateFolder): string | null {
  try {
    return state.readSecret("dev-key");
  } catch (error) {
    throw new UsageFault(
      `the development key cannot be read (${reason(error)}); name a key with --key or MILLRACE_KEY, or another folder with --state DIR.`,
    );
  }
}

/** A refusal by the edge, with its problem details. */
export class ApiFault extends Error {
  readonly status: number;
  readonly code: string;
  readonly problem: unknown;

  constructor(status: number, problem: unknown) {
    const p = (problem ?? {}) as { code?: string; title?: string; detail?: string; error?: { message?: string; code?: string } };
    super(p.error?.message ?? `${p.title ?? "The request was refused"}${p.detail ? `: ${p.detail}` : ""}`);
    this.status = status;
    this.code = p.code ?? p.error?.code ?? "unknown";
    this.problem = problem;
  }
}

/** One request to the edge; throws ApiFault for every status of 400 or more. */
export async function request(
  connection: Connection,
  method: string,
  path: string,
  options: { readonly body?: unknown; readonly headers?: Record<string, string>; readonly signal?: AbortSignal } = {},
): Promise<Response> {
  const answer = await fetch(`${connection.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${connection.key}`,
      ...(options.body === undefined ? {} : { "content-type": "application/json" }),
      ...options.headers,
    },
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    ...(options.signal ? { signal: options.signal } : {}),
  }).catch((error: unknown) => {
    throw new UsageFault(`cannot reach ${connection.url}: ${reason(error)}`);
  });
  if (answer.status >= 400) {
    const text = await bodyOf(answer);
    let problem: unknown = { title: `HTTP ${answer.status}`, detail: firstLine(text) };
    try {
      problem = JSON.parse(text);
    } catch {
      // Not ours: a proxy's page, say, or a stack. Its first words stand.
    }
    throw new ApiFault(answer.status, problem);
  }
  return answer;
}

/** The answer's body as what it should be. */
export async function read<T>(answer: Response, schema: z.ZodType<T>): Promise<T> {
  const text = await bodyOf(answer);
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const wrong = error instanceof z.ZodError ? z.prettifyError(error) : text;
    throw new UsageFault(`${answer.url} answered something else than a Millrace of this version: ${firstLine(wrong)}`);
  }
}

async function bodyOf(answer: Response): Promise<string> {
  try {
    return await answer.text();
  } catch (error) {
    throw new UsageFault(`the connection broke in the middle of the answer: ${reason(error)}`);
  }
}

/** The command's exit code for a refusal or a failure with this HTTP status: 2 where asking differently may help. */
export const exitCodeOf = (status: number): number => (status >= 400 && status < 500 ? 2 : 1);
