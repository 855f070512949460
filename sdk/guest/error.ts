/** What a capability throws: `code` is one of docs/errors.md. */
export class MillraceError extends Error {
  readonly code: string;
  readonly param: string | undefined;

  constructor(code: string, detail: string, param?: string) {
    super(detail);
    this.name = "MillraceError";
    this.code = code;
    this.param = param;
  }
}
