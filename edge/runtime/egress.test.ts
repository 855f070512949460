import { expect, test } from "vitest";
import { exports } from "cloudflare:workers";
import { bindings, origin } from "../testing.ts";
import { isAllowed, isInside, type EgressProps } from "./egress.ts";

const HOSTS = ["api.example.com", "Example.org", "box.example:8443"];

test.each([
  ["https://api.example.com/x", true],
  ["https://API.EXAMPLE.com/x", true],
  ["https://example.org", true],
  ["https://box.example:8443/", true],
  ["https://box.example/", false],
  ["https://api.example.com:8443/", false],
  ["https://evil.api.example.com/", false],
  ["https://api.example.com.evil.net/", false],
  ["https://user@api.example.com/", false],
  ["http://127.0.0.1\\@api.example.com/", false],
  ["ftp://api.example.com/", false],
  ["data:text/plain,x", false],
])("exact hosts only: %s", (url, allowed) => {
  expect(isAllowed(new URL(url), HOSTS)).toBe(allowed);
});

test.each([
  "127.0.0.1",
  "0x7f.1",
  "2130706433",
  "0177.0.0.1",
  "[::1]",
  "[::ffff:169.254.169.254]",
  "localhost",
  "metadata.google.internal",
])("inside, however spelt: %s", (host) => expect(isInside(new URL(`http://${host}/`).hostname)).toBe(true));
test("a public name is not inside", () => expect(isInside("api.example.com")).toBe(false));

test("a run's way out ends with it: code that got past its own isolate's rules reaches nothing", async () => {
  const { Egress } = exports as unknown as { Egress: (options: { props: EgressProps }) => Fetcher };
  const host = { binding: "RUNS" as const, id: bindings.RUNS.newUniqueId().toString() };
  const hosts = [new URL(origin.allowed).host];
  const answer = await Egress({ props: { host, execution: "over", hosts } }).fetch(`${origin.allowed}/count?of=past-the-end`);
  expect(answer.status).toBe(403);
  expect(await (await fetch(`${origin.allowed}/counted?of=past-the-end`)).text()).toBe("0");
});
