import { expect, test } from "vitest";
import { ERRORS, type ErrorCode, failure, toOpenAIError, toProblem } from "./errors.ts";
import { problem } from "./wire/http.ts";

const codes = Object.keys(ERRORS) as ErrorCode[];

test.each(codes)("%s says what happened and what to do, as problem+json and as OpenAI's error", (code) => {
  const { status } = ERRORS[code];
  expect(status).toBeGreaterThanOrEqual(400);
  expect(status).toBeLessThan(600);
  const body = toProblem(failure(code), "req_1");
  expect(problem.parse(body)).toEqual(body);
  expect(body.detail).not.toBe("");
  const { error } = toOpenAIError(failure(code, "the detail", "model"));
  expect(error).toEqual({ message: "the detail", type: expect.any(String), param: "model", code });
});

test("a detail that was not given is not sent as undefined", () => {
  expect(Object.keys(failure("internal"))).toEqual(["code"]);
});
