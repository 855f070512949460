/**
 * vitest globalSetup of project `edge`: a site elsewhere, for functions to fetch. `?to=…` sends them on, `/headers` answers with the
 * headers that arrived, `/count?of=…` counts and `/counted?of=…` tells how often, `/forged` pretends to be a refusal of the edge's own; the rest answers. Beside it a server that says nothing:
 * `/held` counts its connections, `/hang-up` ends them. As a gateway it streams the first message's text, an event stream, as it is, and
 * for the model `cut` breaks the connection then; for `hangs` it says nothing, and
 * `/hanging` counts such calls whose caller has not left.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSilentServer, type AddressInfo, type Socket } from "node:net";
import type { TestProject } from "vitest/node";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const held = new Set<Socket>();
  const hanging = new Set<ServerResponse>();
  const silent = createSilentServer((socket) => {
    held.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => held.delete(socket));
  });
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const counts = new Map<string, number>();
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://origin");
    const to = searchParams.get("to");
    const of = searchParams.get("of") ?? "";
    if (pathname === "/count") counts.set(of, (counts.get(of) ?? 0) + 1);
    if (to !== null) response.writeHead(302, { location: to }).end();
    else if (pathname === "/counted") response.end(String(counts.get(of) ?? 0));
    else if (pathname === "/headers") response.end(JSON.stringify(request.headers));
    else if (pathname === "/forged") response.writeHead(200, { "x-millrace-egress-forbidden": "bank.example" }).end("forged");
    else if (pathname === "/v1/chat/completions") void streamAsGateway(request, response, hanging);
    else if (pathname === "/hanging") response.end(String(hanging.size));
    else if (pathname === "/held") response.end(String(held.size));
    else if (pathname === "/hang-up") {
      for (const socket of held) socket.destroy();
      response.end("done");
    } else response.end("here");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  project.provide("origin", {
    allowed: `http://127.0.0.1:${port}`,
    other: `http://localhost:${port}`,
    silent_port: (silent.address() as AddressInfo).port,
  });
  return async () => {
    for (const socket of held) socket.destroy();
    silent.close();
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  };
}

type Chat = { model: string; messages: { content: string }[] };
async function streamAsGateway(request: IncomingMessage, response: ServerResponse, hanging: Set<ServerResponse>): Promise<void> {
  const { model, messages } = JSON.parse(Buffer.concat(await request.toArray()).toString()) as Chat;
  if (model === "hangs") {
    hanging.add(response);
    response.on("close", () => hanging.delete(response));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write(messages[0]?.content ?? "", () => (model === "cut" ? response.destroy() : response.end()));
}
