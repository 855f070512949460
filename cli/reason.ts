/** Why something failed, in one line. `fetch failed` and its like say nothing: what they mean stands in their cause. */
export function reason(error: unknown): string {
  if (!(error instanceof Error)) return firstLine(String(error));
  // Node tries several addresses of a name at once, and then reports all failures in one error without a message of its own.
  if (error instanceof AggregateError && error.message === "" && error.errors.length > 0) return reason(error.errors[0]);
  const text = firstLine(error.message);
  return error.cause instanceof Error ? `${text}: ${reason(error.cause)}` : text;
}

const LINE_MAX = 300;

/** The first words of a text that may be a page or a stack. */
export function firstLine(text: string): string {
  const plain = /^\s*</.test(text) ? text.replaceAll(/<(style|script|head)\b.*?<\/\1>/gis, "").replaceAll(/<[^>]*>/g, "\n") : text;
  const line = plain.split("\n").find((each) => each.trim() !== "") ?? "";
  return (
    line
      .replace(/\s{2,}at .*$/, "")
      .trim()
      .slice(0, LINE_MAX) || "no reason given"
  );
}
