/** The paths of vLLM's OpenAI server, and `/sim/…` for tests. */
import { randomBytes } from "node:crypto";
import http from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { FAULTS_MAX, faultsBody } from "./faults.ts";
import { busy_sockets } from "./faulty-body.ts";
import { generate, refuse } from "./generate.ts";
import type { Instance } from "./instance.ts";
import { httpKvPeer } from "./kv-channel.ts";
import { metricsText } from "./metrics.ts";
import { prepare } from "./prepare.ts";
import { tokenizeBody } from "./request.ts";
import { pieces, renderChat } from "./tokens.ts";
import { VERSION, tokenizeAnswer } from "./wire.ts";

const BODY_BYTES_MAX = 64 * 1_048_576; // beyond it: 413
const RECENT_REQUESTS_MAX = 32; // what /sim/stats shows; the oldest go

type Recent = { path: string; leg: string; request_id: string | null; fields: string[] };

export function createSimulatedServer(instance: Instance, kv_port: number): http.Server {
  const recent: Recent[] = [];
  const routes: Record<string, (request: IncomingMessage, response: ServerResponse, url: URL) => void | Promise<void>> = {
    "GET /health": (_request, response) => {
      response.writeHead(instance.state === "ready" ? 200 : 503, { "content-length": 0 }).end();
    },
    "GET /version": (_request, response) => json(response, { version: VERSION }),
    "GET /v1/models": (_request, response) => json(response, models(instance)),
    "GET /metrics": (_request, response) => send(response, 200, "text/plain; version=0.0.4; charset=utf-8", metricsText(instance)),
    "GET /load": (_request, response) => json(response, { server_load: instance.model.running + instance.model.waiting }),
    "GET /is_sleeping": (_request, response) => json(response, { is_sleeping: instance.awake !== "awake" }),
    "POST /sleep": async (_request, response, url) => {
      const level = url.searchParams.get("level") === "2" ? 2 : 1;
      await instance.sleep(level);
      json(response, { status: "sleeping", level });
    },
    "POST /wake_up": async (_request, response, url) => {
      const tags = url.searchParams.getAll("tags");
      // Level 2: weights first, then kv_cache; the engine is awake with the last.
      if (tags.length === 0 || tags.includes("kv_cache")) await instance.wake();
      json(response, { status: "awake", tags: tags.length === 0 ? null : tags });
    },
    "POST /collective_rpc": (_request, response) => json(response, { results: [null] }),
    "POST /tokenize": async (request, response) => {
      const body = tokenizeBody.safeParse(await readJson(request));
      if (!body.success) return refuse(response, 400, "1 validation error");
      const text = body.data.messages === undefined ? (body.data.prompt ?? "") : renderChat({ messages: body.data.messages });
      send(response, 200, "application/json", tokenizeAnswer(pieces(text), instance.options.context_tokens));
    },
    "POST /v1/chat/completions": (request, response) => serveGeneration("chat", request, response),
    "POST /v1/completions": (request, response) => serveGeneration("completion", request, response),
  };
  if (instance.options.sim_control) {
    routes["POST /sim/faults"] = async (request, response) => {
      const body = faultsBody.safeParse(await readJson(request));
      if (!body.success) return refuse(response, 400, body.error.message);
      if (!instance.faults.arm(body.data)) return refuse(response, 400, `more than ${FAULTS_MAX} faults armed`);
      json(response, { armed: body.data.length });
    };
    routes["DELETE /sim/faults"] = (_request, response) => {
      instance.faults.clear();
      json(response, { armed: 0 });
    };
    routes["GET /sim/stats"] = (_request, response) => json(response, stats(instance, recent));
  }

  async function serveGeneration(kind: "chat" | "completion", request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readJson(request);
    instance.counters.requests++;
    if (instance.state === "loading") return refuse(response, 503, "The model is loading");
    if (instance.state === "dead")
      return refuse(response, 500, "EngineCore encountered an issue. See stack trace (above) for the root cause.");
    if (body === undefined)
      return refuse(response, 400, "1 validation error:\n  {'type': 'json_invalid', 'msg': 'JSON decode error'}", "body");
    const preparation = prepare(kind, body, instance.options);
    const given = request.headers["x-request-id"];
    const request_id = typeof given === "string" ? given : null;
    const handover = preparation.type === "ok" ? preparation.prepared.handover.type : "none";
    const leg = handover === "none" ? "whole" : handover === "prefill" ? "prefill" : "decode";
    recent.push({ path: request.url ?? "", leg, request_id, fields: Object.keys(body as object) });
    if (recent.length > RECENT_REQUESTS_MAX) recent.shift();
    if (preparation.type === "refused") {
      releaseRefused(body);
      return refuse(response, preparation.status, preparation.message, preparation.param);
    }
    if (response.destroyed) return;
    const fault = instance.faults.take(leg);
    const base = `${kind === "chat" ? "chatcmpl" : "cmpl"}-${request_id ?? randomBytes(8).toString("hex")}`;
    const id = fault?.fault === "wrong_id" ? "chatcmpl-somebody-else" : base;
    const head = { kind, id, created: Math.floor(Date.now() / 1_000), model: instance.options.profile.name };
    const engine_request_id = `${base}${kind === "chat" ? "" : "-0"}-${randomBytes(4).toString("hex")}`;
    generate({ instance, prepared: preparation.prepared, response, head, engine_request_id, kv_port, fault });
  }

  const server = http.createServer({ noDelay: true, keepAlive: true }, (request, response) => {
    busy_sockets.add(request.socket);
    response.on("close", () => busy_sockets.delete(request.socket));
    const url = new URL(request.url ?? "/", "http://localhost");
    const route = routes[`${request.method} ${url.pathname}`];
    if (route === undefined) return json(response, { detail: "Not Found" }, 404);
    Promise.resolve(route(request, response, url)).catch((error: unknown) => {
      if (!response.headersSent) refuse(response, error instanceof BodyTooLarge ? 413 : 500, "Internal server error");
      else response.destroy();
    });
  });
  return server;
}

/** A decode instance that refuses leg 2 tells prefill to free its blocks. */
function releaseRefused(body: unknown): void {
  const params = (body as { kv_transfer_params?: Record<string, unknown> }).kv_transfer_params;
  const { remote_host: host, remote_port: port, remote_engine_id: engine_id, remote_request_id: request_id } = params ?? {};
  if (typeof host !== "string" || typeof port !== "number" || typeof engine_id !== "string" || typeof request_id !== "string") return;
  void httpKvPeer.drop({ host, port, engine_id, request_id, block_ids: [], cached_tokens: null, gpus: 1 });
}

function models({ options }: Instance): object {
  const { name } = options.profile;
  const created = 0;
  const entry = {
    id: name,
    object: "model",
    created,
    owned_by: "millrace-simulated",
    root: name,
    parent: null,
    max_model_len: options.context_tokens,
  };
  return { object: "list", data: [entry] };
}

function stats(instance: Instance, recent: readonly Recent[]): object {
  const { model, counters, options } = instance;
  return {
    ...counters,
    engine_id: options.engine_id,
    role: options.role,
    running: model.running,
    waiting: model.waiting,
    held: model.held,
    kv_blocks_used: model.kv.used,
    kv_blocks_total: model.kv.total,
    preemptions: model.preemptions,
    recent,
  };
}

class BodyTooLarge extends Error {}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > BODY_BYTES_MAX) throw new BodyTooLarge();
    chunks.push(chunk as Buffer);
  }
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString());
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function json(response: ServerResponse, body: object, status = 200): void {
  send(response, status, "application/json", JSON.stringify(body));
}

function send(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text) }).end(text);
}
