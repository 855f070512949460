/**
 * The smallest program that a node agent can run as an engine; for tests of the agent and of providers, which care how a
 * process lives and dies and not what it serves. `--port N [--load-ms L] [--stubborn] [--child] [--chatty BYTES] [--quit]`
 *  stubborn: ignores SIGTERM and the end of its stdin, as a real engine may. child: has a child of its own that is stubborn too.
 *  chatty: prints so much. quit: exits with code 7 before it is ready.
 */
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const flag = { type: "boolean", default: false } as const;
const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "load-ms": { type: "string", default: "0" },
    chatty: { type: "string", default: "0" },
    stubborn: flag,
    child: flag,
    quit: flag,
    "as-child": flag,
  },
});

if (values.quit) {
  console.error("no more");
  process.exit(7);
}
if (values.stubborn || values["as-child"]) process.on("SIGTERM", () => {});
else process.stdin.on("end", () => process.exit(0)).resume();
if (values.child) spawn(process.execPath, [import.meta.filename, "--as-child"], { stdio: "ignore" });
if (values.chatty !== "0") process.stdout.write("x".repeat(Number(values.chatty)));

if (values["as-child"]) setInterval(() => {}, 1_000_000);
else {
  const environment = JSON.stringify({ devices: process.env["CUDA_VISIBLE_DEVICES"], names: Object.keys(process.env).sort() });
  const server = createServer((request, response) => {
    response.writeHead(request.url === "/health" || request.url === "/env" ? 200 : 404).end(environment);
  });
  setTimeout(() => server.listen(Number(values.port), "127.0.0.1"), Number(values["load-ms"]));
}
