/**
 * The HTTP client of all engine adapters: one pool of keep-alive connections per engine. Behind this small face so that
 * another client can replace undici without an adapter noticing.
 *
 * An answer that nobody asked for, on an idle connection, is not taken for the next request's: undici destroys a connection
 * that speaks while idle, and looks at an idle one for a turn of the event loop before using it again. Adapters check the
 * answer's id besides.
 */
import { Pool } from "undici";
import type { Dispatcher } from "undici";

export type ResponseHandler = {
  head(status: number): void;
  data(chunk: Buffer): void;
  /** The response is complete. */
  end(): void;
  /** Instead of `end`, and nothing after it. `connect`: the engine never had the request. */
  error(kind: "connect" | "cut", detail: string): void;
};

export type HttpRequest = {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

export type HttpAnswer =
  | { readonly type: "answer"; readonly status: number; readonly text: string }
  | { readonly type: "unreachable"; readonly detail: string };

export type HttpOptions = {
  readonly url: string;
  readonly connect_timeout_ms: number;
  /** Connections at once; more requests wait for one (their accept timeout runs). */
  readonly connections_max: number;
};

/** uvicorn closes idle connections after 5 s: ours are gone before. */
const IDLE_MS = 4_000;
export const TEXT_BYTES_MAX = 16 * 1_048_576; // of a whole answer read by `ask`: then `unreachable`

export class HttpClient {
  readonly #pool: Pool;
  readonly #base: string;

  constructor(options: HttpOptions) {
    const url = new URL(options.url);
    this.#base = url.pathname.replace(/\/$/, "");
    this.#pool = new Pool(url.origin, {
      connections: options.connections_max,
      connect: { timeout: options.connect_timeout_ms },
      headersTimeout: 0, // legs have their own accept timeout, and policy its deadlines
      bodyTimeout: 0,
      keepAliveTimeout: IDLE_MS,
      keepAliveMaxTimeout: IDLE_MS,
    });
  }

  /** Starts a request; the returned function closes its connection, after which the handler hears nothing. */
  start(request: HttpRequest, handler: ResponseHandler): () => void {
    let controller: Dispatcher.DispatchController | null = null;
    let aborted = false;
    let returned = false;
    const path = this.#base + request.path;
    const dispatched = { path, method: request.method, headers: request.headers ?? {}, body: request.body ?? null };
    this.#pool.dispatch(dispatched, {
      onRequestStart(started) {
        controller = started;
        if (aborted) started.abort(new Error("aborted"));
      },
      onResponseStart(_controller, status) {
        if (!aborted && status >= 200) handler.head(status);
      },
      onResponseData(_controller, chunk) {
        if (!aborted) handler.data(chunk);
      },
      onResponseEnd() {
        if (!aborted) handler.end();
      },
      onResponseError(_controller, error) {
        if (aborted) return;
        const code = (error as NodeJS.ErrnoException).code ?? "";
        const tell = () => handler.error(controller === null ? "connect" : "cut", code === "" ? error.message : code);
        if (returned) tell();
        else queueMicrotask(tell); // a closed pool says so at once: not before the caller has what `start` returns
      },
    });
    returned = true;
    return () => {
      if (aborted) return;
      aborted = true;
      controller?.abort(new Error("aborted"));
    };
  }

  /** A small request and its whole answer. */
  ask(request: HttpRequest, timeout_ms: number): Promise<HttpAnswer> {
    return new Promise((resolve) => {
      const chunks: Buffer[] = [];
      let [status, bytes] = [0, 0];
      const settle = (answer: HttpAnswer) => {
        clearTimeout(timer);
        resolve(answer);
      };
      const abort = this.start(request, {
        head: (got) => (status = got),
        data(chunk) {
          bytes += chunk.length;
          if (bytes <= TEXT_BYTES_MAX) chunks.push(chunk);
          else {
            abort();
            settle({ type: "unreachable", detail: "the answer is too long" });
          }
        },
        end: () => settle({ type: "answer", status, text: Buffer.concat(chunks).toString() }),
        error: (_kind, detail) => settle({ type: "unreachable", detail }),
      });
      const timer = setTimeout(() => {
        abort();
        settle({ type: "unreachable", detail: `no answer within ${timeout_ms} ms` });
      }, timeout_ms);
    });
  }

  close(): void {
    void this.#pool.destroy();
  }
}
