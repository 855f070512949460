/**
 * A session enters its name with a key while sockets that the key opened are open (key-sockets.ts): before the first of them is
 * accepted, until the last is closed. One at a time, so that an entry and a leave do not overtake each other.
 */
import type { Env } from "../env.ts";
import { keySocketsOf } from "./key-sockets.ts";
import { readerOf } from "./session-readers.ts";

export class SessionEntry {
  readonly #ctx: DurableObjectState;
  readonly #env: Env;
  #last: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    this.#ctx = ctx;
    this.#env = env;
  }

  /** `accept` runs once the key knows of this session. Rejects when the key's object cannot be reached: nothing was accepted. */
  open<T>(key: string, accept: () => T): Promise<T | "revoked"> {
    return this.#inOrder(async () => {
      if (!this.#hasSocketOf(key) && (await this.#sockets(key).enter(this.#object)) === "revoked") return "revoked";
      return accept();
    });
  }

  /** A socket that the key opened is closed. An entry that stays by mistake costs one vain wake-up. */
  closed(key: string, socket?: WebSocket): void {
    const left = this.#inOrder(async () => {
      if (!this.#hasSocketOf(key, socket)) await this.#sockets(key).leave(this.#object);
    });
    this.#ctx.waitUntil(left.catch(() => undefined));
  }

  #hasSocketOf(key: string, besides?: WebSocket): boolean {
    return this.#ctx
      .getWebSockets()
      .some((socket) => socket !== besides && socket.readyState === WebSocket.OPEN && readerOf(socket).caller.key === key);
  }

  #sockets(key: string) {
    return keySocketsOf(this.#env, key, this.#object);
  }

  get #object(): string {
    return this.#ctx.id.toString();
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}
