/** An outcome as data: exceptions mean bugs. */
import { failure, type ErrorCode, type Failure } from "../../schema/core/errors.ts";

export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Failure };

export const good = <T>(value: T): Result<T> => ({ ok: true, value });
export const bad = (code: ErrorCode, detail?: string, param?: string): Result<never> => ({
  ok: false,
  error: failure(code, detail, param),
});
