import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ERRORS, failure, toOpenAIError, toProblem, type ErrorCode } from "../../schema/core/errors.ts";
import { errorsPage } from "./errors-doc.ts";

describe("docs/errors.md", () => {
  it("is the catalogue (node test/contract/errors-doc.ts > docs/errors.md)", () => {
    expect(readFileSync(join(import.meta.dirname, "..", "..", "docs", "errors.md"), "utf8")).toBe(errorsPage());
  });

  it.each(Object.keys(ERRORS) as ErrorCode[])("%s renders as a problem and as OpenAI's error", (code) => {
    const problem = toProblem(failure(code, "because"));
    expect(problem).toMatchObject({ code, status: ERRORS[code].status, detail: "because" });
    expect(problem.status).toBeGreaterThanOrEqual(400);
    expect(toOpenAIError(failure(code)).error).toMatchObject({ code, param: null });
    expect(ERRORS[code].what_to_do).toMatch(/\.$/);
  });
});
