import { createServer } from "node:net";
import { expect, test } from "vitest";
import { choosePort, portMessage, samePort } from "./ports.ts";

test("a named port in use is refused, a usual one is passed over", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const { port } = taken.address() as { port: number };
  expect(await choosePort(port, 0, "--p")).toEqual({ ok: false, message: portMessage(port, "EADDRINUSE", "--p") });
  const other = await choosePort(undefined, port, "--p");
  expect(other.ok && other.port !== port).toBe(true);
  taken.close();
});

test("a port that may not be used is not called in use", () => {
  expect(portMessage(80, "EACCES", "--p")).toBe("port 80 is kept for privileged users; choose another with --p, of 1024 or more.");
  expect(portMessage(81, "EADDRNOTAVAIL", "--p")).toBe("port 81 cannot be used (EADDRNOTAVAIL); choose another with --p.");
});

test("two parts on one port are refused; 0 is any", () => {
  expect(
    samePort([
      ["--a", 1],
      ["--b", undefined],
      ["--c", 1],
    ]),
  ).toBe("--a and --c are both 1; choose two different ports.");
  expect(
    samePort([
      ["--a", 0],
      ["--b", 0],
      ["--c", undefined],
      ["--d", undefined],
    ]),
  ).toBeNull();
});
