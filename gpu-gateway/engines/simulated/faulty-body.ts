/** Writes a response's body, and does to it what an injected fault says. Without a fault: writes it. */
import type { ServerResponse } from "node:http";
import type { Fault } from "./faults.ts";

const EXTRA_BODY =
  'data: {"id":"chatcmpl-extra","choices":[{"index":0,"delta":{"content":"unsolicited"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';

/** Connections with a request in progress: only on an idle one is an extra answer what its name says. */
export const busy_sockets = new WeakSet<object>();

const ERROR_EVENT = 'data: {"error": {"message": "Injected failure", "type": "InternalServerError", "param": null, "code": 500}}\n\n';

/** Faults that strike once, in the middle of a stream. */
const STREAM_FAULTS: Partial<Record<Fault["fault"], (response: ServerResponse) => "stops" | "goes on">> = {
  hang: () => "stops",
  cut: (response) => {
    setImmediate(() => response.socket?.destroy()); // after what was written before has left
    return "stops";
  },
  early_end: (response) => {
    response.end();
    return "stops";
  },
  error_event: (response) => {
    response.end(`${ERROR_EVENT}data: [DONE]\n\n`);
    return "stops";
  },
  garbage: (response) => {
    response.write(Buffer.from([0, 255, 254, 60, 33, 10, 10]));
    return "goes on";
  },
  bad_json: (response) => {
    response.write('data: {"choices":[{"index":0,"delta":\n\n');
    return "goes on";
  },
};

export class FaultyBody {
  readonly #response: ServerResponse;
  readonly #fault: Fault | null;
  #stopped = false;
  #fired = false;

  constructor(response: ServerResponse, fault: Fault | null) {
    this.#response = response;
    this.#fault = fault;
  }

  /** Asked before each token, with the number already written: true when nothing more is to be written. */
  blocks(tokens: number): boolean {
    if (this.#stopped) return true;
    const fault = this.#fault;
    if (fault === null || tokens < (fault.after_tokens ?? 0) || this.#fired) return false;
    this.#fired = true;
    const act = STREAM_FAULTS[fault.fault];
    if (act === undefined) return false;
    this.#stopped = act(this.#response) === "stops";
    return this.#stopped;
  }

  withoutUsage(): boolean {
    return this.#fault?.fault === "no_usage";
  }

  usage(text: string): string {
    if (this.#fault?.fault !== "wrong_usage") return text;
    return text.replace(/"prompt_tokens":\d+/, '"prompt_tokens":-7').replace(/"completion_tokens":\d+/, '"completion_tokens":1e30');
  }

  write(text: string): void {
    if (this.#stopped) return;
    const fault = this.#fault?.fault;
    if (fault === "crlf") this.#response.write(text.replaceAll("\n\n", "\r\n: comment\r\n\r\n"));
    else if (fault === "dribble") for (const byte of Buffer.from(text)) this.#response.write(Buffer.from([byte]));
    else this.#response.write(text);
  }

  end(late_token: string): void {
    if (this.#stopped) return;
    this.write("data: [DONE]\n\n");
    if (this.#fault?.fault === "after_done") this.write(late_token);
    this.finish("");
  }

  finish(rest: string): void {
    const { socket } = this.#response;
    this.#response.end(rest);
    if (this.#fault?.fault !== "extra_answer" || socket === null) return;
    const head = `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: ${EXTRA_BODY.length}\r\n\r\n`;
    setTimeout(() => {
      if (!busy_sockets.has(socket)) socket.write(head + EXTRA_BODY);
    }, this.#fault.delay_ms);
  }
}
