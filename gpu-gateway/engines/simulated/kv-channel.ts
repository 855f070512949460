/**
 * The side channel between simulated instances, in the place of NIXL: a decode instance asks the prefill instance for held
 * blocks (`pull`), waits the transfer out over its own links, and says that it is done, which is answered when it is over on the prefill
 * instance's links, too. Or that it does not want them (`drop`). Also how a lease is renewed while a request waits at decode.
 */
import http from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import type { Instance } from "./instance.ts";
import type { RemoteKv } from "./request.ts";
import type { Party } from "./transfers.ts";

const REQUEST_BYTES_MAX = 1_048_576;
const PEER_TIMEOUT_MS = 5_000; // NIXL's own handshake gave up after 5 s on a dead port

export type PullOutcome = { readonly type: "ok" } | { readonly type: "refused"; readonly reason: string };

export interface KvPeer {
  pull(remote: RemoteKv, puller: Party, bytes: number): Promise<PullOutcome>;
  done(remote: RemoteKv): Promise<PullOutcome>;
  drop(remote: RemoteKv): Promise<PullOutcome>;
  renew(remote: RemoteKv): Promise<PullOutcome>;
}

const message = z.object({
  engine_id: z.string(),
  request_id: z.string(),
  block_ids: z.array(z.int()),
  puller: z.object({ engine_id: z.string(), gpus: z.int().min(1) }).optional(),
  bytes: z.int().min(0).default(0),
});
type Message = z.output<typeof message>;

export async function serveKvChannel(instance: Instance): Promise<{ readonly port: number; readonly server: http.Server }> {
  const server = http.createServer({ noDelay: true }, (request, response) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > REQUEST_BYTES_MAX) request.destroy();
      else chunks.push(chunk);
    });
    request.on("end", () => {
      const answer = (status: number) => response.writeHead(status, { "content-length": 0 }).end();
      const body = message.safeParse(parseJson(Buffer.concat(chunks).toString()));
      if (!body.success || instance.state !== "ready") return answer(503);
      if (body.data.engine_id !== instance.options.engine_id) return answer(409);
      const path = request.url ?? "";
      if (path === "/kv/done") return void instance.finish(body.data.request_id).then(() => answer(200));
      const status = serve(instance, path, body.data);
      if (path === "/kv/pull" && instance.faults.kv_delay_ms > 0) return void setTimeout(answer, instance.faults.kv_delay_ms, status);
      return answer(status);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(instance.options.kv_port, instance.options.host, resolve);
  });
  return { port: (server.address() as AddressInfo).port, server };
}

function serve(instance: Instance, path: string, asked: Message): number {
  switch (path) {
    case "/kv/pull":
      return !instance.faults.kv_lost && instance.pull(asked.request_id, asked.block_ids, asked.puller ?? null, asked.bytes) ? 200 : 410;
    case "/kv/drop":
      instance.release(asked.request_id);
      return 200;
    case "/kv/renew":
      instance.renew([asked.request_id]);
      return 200;
    default:
      return 404;
  }
}

/** The calling side: one connection a message, so that a dead peer is noticed and no old connection outlives it. */
export const httpKvPeer: KvPeer = {
  pull: (remote, puller, bytes) => post(remote, "/kv/pull", { puller, bytes: Math.round(bytes) }),
  done: (remote) => post(remote, "/kv/done"),
  drop: (remote) => post(remote, "/kv/drop"),
  renew: (remote) => post(remote, "/kv/renew"),
};

function post(remote: RemoteKv, path: string, more: object = {}): Promise<PullOutcome> {
  return new Promise((resolve) => {
    const { engine_id, request_id, block_ids } = remote;
    const body = JSON.stringify({ engine_id, request_id, block_ids, ...more });
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
    const { host, port } = remote;
    const refused = (reason: string) => resolve({ type: "refused", reason });
    if (!Number.isInteger(port) || port < 1 || port > 65_535) return refused("no such port");
    const request = http.request({ host, port, path, method: "POST", headers, agent: false, timeout: PEER_TIMEOUT_MS }, (response) => {
      response.resume();
      response.on("close", () => (response.statusCode === 200 ? resolve({ type: "ok" }) : refused(`status ${response.statusCode}`)));
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", (error) => refused(error.message));
    request.end(body);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
