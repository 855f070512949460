/**
 * An engine that costs next to nothing and always takes the same time: a separate process that answers vLLM's chat endpoint
 * after --ttft-ms with --tokens tokens, --itl-ms apart, streamed and not. It exists so that a bench measures what stands before
 * it. It decides nothing, holds no KV and batches nothing.
 */
import { createServer, type ServerResponse } from "node:http";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "0" },
    "ttft-ms": { type: "string", default: "20" },
    "itl-ms": { type: "string", default: "0" },
    tokens: { type: "string", default: "16" },
    model: { type: "string", default: "llama-3-8b" },
  },
  strict: false,
});
const ttft_ms = Number(values["ttft-ms"]);
const itl_ms = Number(values["itl-ms"]);
const tokens = Number(values["tokens"]);
const model = String(values["model"]);

const usage = { prompt_tokens: 100, completion_tokens: tokens, total_tokens: 100 + tokens };
const chunk = (delta: object, finish_reason: string | null) =>
  `data: ${JSON.stringify({ id: "REQUEST_ID", object: "chat.completion.chunk", created: 1, model, choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
const role = chunk({ role: "assistant", content: "" }, null);
const word = chunk({ content: "word " }, null);
const last = chunk({ content: "word " }, "length");
const tail = `data: ${JSON.stringify({ id: "REQUEST_ID", object: "chat.completion.chunk", created: 1, model, choices: [], usage })}\n\ndata: [DONE]\n\n`;
const whole = JSON.stringify({
  id: "REQUEST_ID",
  object: "chat.completion",
  created: 1,
  model,
  choices: [{ index: 0, message: { role: "assistant", content: "word ".repeat(tokens) }, finish_reason: "length" }],
  usage,
});
const metrics = [
  'vllm:cache_config_info{block_size="16",num_gpu_blocks="40000"} 1',
  "vllm:num_requests_running 0",
  "vllm:num_requests_waiting 0",
  "vllm:kv_cache_usage_perc 0",
  "",
].join("\n");
const models = JSON.stringify({
  object: "list",
  data: [{ id: model, object: "model", created: 1, owned_by: "bench", max_model_len: 8192 }],
});

const json = (response: ServerResponse, text: string): void => {
  response.setHeader("content-type", "application/json").end(text);
};

/** vLLM names its answer after the request's X-Request-Id, and the adapter checks that. */
const named = (text: string, id: string): string => text.replaceAll("REQUEST_ID", `chatcmpl-${id}`);

function answerStream(response: ServerResponse, id: string): void {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  let sent = 0;
  const next = (): void => {
    sent += 1;
    if (sent >= tokens) {
      response.end(named(last + tail, id));
      return;
    }
    response.write(named(sent === 1 ? role + word : word, id));
    if (itl_ms > 0) setTimeout(next, itl_ms);
    else next();
  };
  setTimeout(next, ttft_ms);
}

const server = createServer((request, response) => {
  if (request.url === "/metrics") {
    response.setHeader("content-type", "text/plain").end(metrics);
    return;
  }
  if (request.method === "GET") {
    json(response, request.url === "/v1/models" ? models : request.url === "/version" ? '{"version":"0.32.0"}' : "{}");
    return;
  }
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (text: string) => (body += text));
  request.on("end", () => {
    const id = String(request.headers["x-request-id"] ?? "direct");
    if (body.includes('"stream":true')) answerStream(response, id);
    else setTimeout(() => json(response, named(whole, id)), ttft_ms);
  });
});
server.keepAliveTimeout = 120_000;
server.listen(Number(values["port"]), "127.0.0.1", () => {
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  process.stdout.write(`${JSON.stringify({ ready: true, url: `http://127.0.0.1:${port}` })}\n`);
});
