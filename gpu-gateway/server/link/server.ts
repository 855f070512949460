/** The door of the link: refuses before the upgrade, then hands the socket to a LinkConnection. Knows every open link. */
import type { IncomingMessage } from "node:http";
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { ERRORS, failure, toProblem, type Failure } from "../../../schema/core/errors.ts";
import { LINK_FRAME_BYTES_MAX } from "../../../schema/core/wire/limits.ts";
import { LINK_PROTOCOL } from "../../../schema/core/wire/link.ts";
import { lacksScope } from "../auth.ts";
import type { Doors } from "../doors.ts";
import { LINKS_MAX } from "../limits.ts";
import { requestId } from "../random.ts";
import { LinkConnection } from "./connection.ts";

export class LinkServer {
  readonly #doors: Doors;
  readonly #links = new Set<LinkConnection>();
  readonly #sockets = new WebSocketServer({
    noServer: true,
    maxPayload: LINK_FRAME_BYTES_MAX,
    perMessageDeflate: false,
    handleProtocols: () => LINK_PROTOCOL,
  });

  constructor(doors: Doors) {
    this.#doors = doors;
  }

  get open(): number {
    return this.#links.size;
  }

  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    const path = (request.url ?? "").split("?", 1)[0];
    if (path !== "/link") return refuse(socket, failure("not_found", `no WebSocket at ${path}`));
    const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    if (!offered.includes(LINK_PROTOCOL)) return refuse(socket, failure("unsupported_version", `the subprotocol here is ${LINK_PROTOCOL}`));
    const auth = await this.#doors.auth.authenticate(request.headers.authorization);
    if (auth.type === "refused") return refuse(socket, auth.failure);
    // What a call is for, and who served it, is the edge's to say and to hear: a client's own key has the HTTP doors.
    if (auth.credential.kind !== "token")
      return refuse(socket, failure("insufficient_scope", "the link takes the edge's token, not a key"));
    const lacks = lacksScope(auth.credential, "infer");
    if (lacks !== null) return refuse(socket, lacks);
    if (this.#doors.runtime.phase !== "commanding") return refuse(socket, failure("gateway_unavailable"));
    if (this.#links.size >= LINKS_MAX) return refuse(socket, failure("gateway_unavailable", `at most ${LINKS_MAX} links`));
    if (socket.destroyed) return;
    this.#sockets.handleUpgrade(request, socket, head, (open) => {
      this.#links.add(new LinkConnection(this.#doors, open, auth.credential, (link) => this.#links.delete(link)));
    });
  }

  endOf(keys: ReadonlySet<string>): void {
    for (const link of this.#links) if (keys.has(link.credential.claims.key)) link.end(failure("revoked_key"));
  }

  endAll(): void {
    for (const link of this.#links) link.end(failure("gateway_unavailable", "the gateway is stopping"));
  }
}

function refuse(socket: Duplex, why: Failure): void {
  const { status } = ERRORS[why.code];
  const id = requestId();
  const body = JSON.stringify(toProblem(why, id));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}`,
    "content-type: application/problem+json",
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${id}`,
    ...(status === 401 ? ['www-authenticate: Bearer realm="millrace"'] : []),
    "connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
