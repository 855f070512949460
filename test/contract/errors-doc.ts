/** The page docs/errors.md, made from the catalogue: `node test/contract/errors-doc.ts > docs/errors.md`. */
import { ERRORS, type ErrorCode } from "../../schema/core/errors.ts";

export function errorsPage(): string {
  const rows = (Object.entries(ERRORS) as [ErrorCode, (typeof ERRORS)[ErrorCode]][]).map(
    ([code, e]) => `| <a id="${code}"></a>\`${code}\` | ${e.status} | ${e.retryable ? "yes" : "no"} | ${e.title} | ${e.what_to_do} |`,
  );
  return `# Errors

One catalogue (\`schema/core/errors.ts\`) for every error that a client can meet; this page is made from it and tested against it.

- On Millrace's own paths an error is \`application/problem+json\` (RFC 9457): \`type, title, status, code, detail, what_to_do, retryable\`,
  \`param\` where one field is to blame, \`request_id\`.
- On the OpenAI paths (\`/v1/chat/completions\`, \`/v1/completions\`, \`/v1/models\`) it has OpenAI's shape:
  \`{"error": {"message", "type", "param", "code"}}\` with the same codes, so that the official SDKs raise their typed errors.
- In link and session frames, run events and run results it is \`{"code", "detail"?, "param"?}\`.
- \`retryable\` means that the same request may succeed later; honour \`Retry-After\` where it is sent.
- Every answer carries \`x-request-id\`.

| code | status | retryable | what is wrong | what to do |
|---|---|---|---|---|
${rows.join("\n")}
`;
}

if (import.meta.main) process.stdout.write(errorsPage());
