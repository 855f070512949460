/** vitest globalSetup of project `edge`: a site elsewhere, for functions to fetch. `/redirect?to=…` sends them on; the rest answers. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestProject } from "vitest/node";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const to = new URL(request.url ?? "/", "http://origin").searchParams.get("to");
    if (to === null) response.end("here");
    else response.writeHead(302, { location: to }).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  project.provide("origin", { allowed: `http://127.0.0.1:${port}`, other: `http://localhost:${port}` });
  return async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
}
