/** Every way in which a call of the client fails: one of the platform's codes (docs/errors.md), or `network`. */
import type { ErrorCode } from "../../schema/core/errors.ts";

export type ClientErrorCode = ErrorCode | "network" | "closed";

export class MillraceClientError extends Error {
  readonly code: ClientErrorCode;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number;
  readonly retryable: boolean;
  readonly request_id: string | undefined;
  /** The run that failed, where one had been started. */
  readonly run: string | undefined;

  constructor(fields: {
    code: ClientErrorCode;
    message: string;
    status?: number;
    retryable?: boolean;
    request_id?: string | undefined;
    run?: string | undefined;
    cause?: unknown;
  }) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.name = "MillraceClientError";
    this.code = fields.code;
    this.status = fields.status ?? 0;
    this.retryable = fields.retryable ?? false;
    this.request_id = fields.request_id;
    this.run = fields.run;
  }
}

/** From an answer that is not a success: problem+json, or whatever a proxy on the way made of it. */
export async function errorOf(response: Response): Promise<MillraceClientError> {
  const text = await response.text();
  const problem = parseObject(text);
  const code = typeof problem["code"] === "string" ? (problem["code"] as ErrorCode) : "internal";
  const detail = problem["detail"] ?? problem["title"];
  return new MillraceClientError({
    code,
    message: typeof detail === "string" ? detail : `HTTP ${response.status}`,
    status: response.status,
    retryable: problem["retryable"] === true,
    request_id: response.headers.get("x-request-id") ?? undefined,
    run: typeof problem["run"] === "string" ? problem["run"] : undefined,
  });
}

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
