/**
 * A client that is killed at random places, over and over: it connects with the last `seq` that it has, reads a random number of
 * frames, and its socket is destroyed without a close. What it has collected in the end is compared with the session's own log.
 * The seed decides every place, so that a failure can be had again.
 */
import { WebSocket } from "ws";
import { SESSION_PROTOCOL, type SessionEvent, type SessionToClient } from "../../schema/core/wire/session.ts";
import { within } from "./until.ts";

export type KillOptions = {
  /** The edge's base URL. */
  readonly url: string;
  readonly key: string;
  readonly session: string;
  readonly kills: number;
  readonly seed: number;
  /** The text of the n-th message, from 1; a new one is sent whenever no turn is running. */
  readonly message: (n: number) => string;
  /** A socket reads 1 to this many events before it is destroyed. */
  readonly events_per_socket_max?: number;
  /** Nothing heard for so long is a failure. */
  readonly silence_ms_max?: number;
};

export type KillReport = {
  readonly seed: number;
  readonly kills: number;
  /** Kills while a turn was running: the ones that count. */
  readonly kills_in_turn: number;
  readonly turns: number;
  readonly transcript: readonly SessionEvent[];
  readonly log: readonly SessionEvent[];
};

const EVENTS_PER_SOCKET_MAX = 12;
const SILENCE_MS_MAX = 30_000;

export async function killRepeatedly(options: KillOptions): Promise<KillReport> {
  const random = seeded(options.seed);
  const per_socket_max = options.events_per_socket_max ?? EVENTS_PER_SOCKET_MAX;
  const transcript: SessionEvent[] = [];
  let messages = 0;
  let kills_in_turn = 0;

  for (let kill = 0; ; kill += 1) {
    const last = kill >= options.kills;
    const socket = await Socket.open(options, transcript.at(-1)?.seq ?? 0);
    if (!last || isRunning(transcript)) {
      const wanted = last ? Infinity : 1 + Math.floor(random() * per_socket_max);
      let read = 0;
      while (read < wanted) {
        if (!isRunning(transcript)) {
          if (last) break;
          messages += 1;
          socket.send({ type: "message", id: `kill-${options.seed}-${messages}`, text: options.message(messages) });
        }
        const event = await socket.next();
        transcript.push(event);
        read += 1;
        // The message's own events come first; only then is it known that a turn runs.
        while (event.type === "message" && transcript.at(-1)?.type !== "turn.started") transcript.push(await socket.next());
      }
    }
    if (last) {
      socket.destroy();
      break;
    }
    if (isRunning(transcript)) kills_in_turn += 1;
    socket.destroy();
  }

  const log = await readLog(options);
  return { seed: options.seed, kills: options.kills, kills_in_turn, turns: messages, transcript, log };
}

/** The faults of a report, in words; empty when every event came exactly once, in order, as the log has it. */
export function faultsOf(report: KillReport): string[] {
  const faults: string[] = [];
  report.transcript.forEach((event, index) => {
    if (event.seq !== index + 1) faults.push(`at ${index + 1} the client has seq ${event.seq}`);
    const logged = report.log[index];
    if (JSON.stringify(logged) !== JSON.stringify(event)) faults.push(`seq ${event.seq} differs: ${JSON.stringify([event, logged])}`);
  });
  if (report.log.length !== report.transcript.length) {
    faults.push(`the log has ${report.log.length} events, the client ${report.transcript.length}`);
  }
  if (report.kills_in_turn < report.kills / 2) faults.push(`only ${report.kills_in_turn} of ${report.kills} kills hit a running turn`);
  return faults;
}

/** mulberry32 */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A turn is running when the last thing said of turns is that one started. */
function isRunning(transcript: readonly SessionEvent[]): boolean {
  const last = transcript.findLast((event) => event.type === "turn.started" || event.type === "turn.done" || event.type === "error");
  return last?.type === "turn.started";
}

class Socket {
  readonly #socket: WebSocket;
  readonly #silence_ms_max: number;
  readonly #events: SessionEvent[] = [];
  #wake: (() => void) | undefined;
  #fault: Error | undefined;

  private constructor(socket: WebSocket, silence_ms_max: number) {
    this.#socket = socket;
    this.#silence_ms_max = silence_ms_max;
  }

  /** Resolves after the welcome. */
  static async open(options: KillOptions, resume_from: number): Promise<Socket> {
    const url = `${options.url.replace(/^http/, "ws")}/v1/sessions/${options.session}/connect`;
    const headers = { authorization: `Bearer ${options.key}` };
    const raw = new WebSocket(url, SESSION_PROTOCOL, { headers, perMessageDeflate: false });
    const opened = new Socket(raw, options.silence_ms_max ?? SILENCE_MS_MAX);
    const { promise: welcome, resolve, reject } = Promise.withResolvers<void>();
    raw.on("open", () => opened.send({ type: "hello", resume_from }));
    raw.on("message", (data) => {
      const frame = JSON.parse((data as Buffer).toString()) as SessionToClient;
      if (frame.type === "welcome") resolve();
      else if (frame.type === "refused") opened.#fail(new Error(`refused: ${JSON.stringify(frame.error)}`));
      else {
        opened.#events.push(frame);
        opened.#wake?.();
      }
    });
    const fail = (error: Error) => {
      reject(error);
      opened.#fail(error);
    };
    raw.on("error", fail);
    raw.on("close", (code, reason) => fail(new Error(`closed by the session: ${code} ${reason.toString()}`)));
    await within("welcome", welcome, opened.#silence_ms_max);
    return opened;
  }

  send(frame: object): void {
    this.#socket.send(JSON.stringify(frame));
  }

  async next(): Promise<SessionEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event) return event;
      if (this.#fault) throw this.#fault;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await within("the next event", promise, this.#silence_ms_max);
    }
  }

  /** As a process that was killed: no close frame. */
  destroy(): void {
    this.#socket.removeAllListeners();
    this.#socket.on("error", () => undefined);
    this.#socket.terminate();
  }

  #fail(error: Error): void {
    this.#fault ??= error;
    this.#wake?.();
  }
}

async function readLog(options: KillOptions): Promise<SessionEvent[]> {
  const log: SessionEvent[] = [];
  for (;;) {
    const address = `${options.url}/v1/sessions/${options.session}/events?after=${log.at(-1)?.seq ?? 0}`;
    const answer = await fetch(address, { headers: { authorization: `Bearer ${options.key}` } });
    if (!answer.ok) throw new Error(`the log: ${answer.status} ${await answer.text()}`);
    const page = (await answer.json()) as { events: SessionEvent[] };
    log.push(...page.events);
    if (page.events.length === 0) return log;
  }
}
