/** Reads the agent's events, one long poll after another, until closed; says once an outage that the node cannot be reached. */
import type { Snapshot } from "../../node-agent/wire.ts";
import { events, snapshot } from "../../node-agent/wire.ts";
import type { AgentClient } from "./agent-client.ts";
import type { KnownGroups } from "./known-groups.ts";

/** An answer later than the wait and this is a miss: a hung agent keeps its connections. */
const POLL_GRACE_MS = 1_000;
const MISSES_TO_UNREACHABLE = 3;
const MISS_PAUSE_MS = 100;

type Position = { readonly client: AgentClient; readonly stream: string; readonly after: number };

export class Follower {
  readonly #known: KnownGroups;
  readonly #on_unreachable: (since_ms: number) => void;
  readonly #ended: Promise<void>;
  #at: Position;
  /** Ends the poll or pause under way. */
  #interrupt = new AbortController();
  #closed = false;
  #misses = 0;
  #last_contact = performance.now();

  readonly #poll_wait_ms: number;

  constructor(parts: {
    readonly client: AgentClient;
    readonly start: Snapshot;
    readonly known: KnownGroups;
    readonly poll_wait_ms: number;
    readonly on_unreachable: (since_ms: number) => void;
  }) {
    const { client, start, known } = parts;
    this.#known = known;
    this.#on_unreachable = parts.on_unreachable;
    this.#poll_wait_ms = parts.poll_wait_ms;
    this.#at = { client, stream: start.stream, after: start.seq };
    this.#ended = this.#run();
  }

  /** After a renewal: a restarted agent has another stream, and what it does not name is lost. */
  follow(client: AgentClient, now: Snapshot): void {
    if (now.stream === this.#at.stream) return;
    this.#known.snapshot(now, "the node agent was restarted");
    this.#at = { client, stream: now.stream, after: now.seq };
    this.#contact();
    this.#interrupt.abort();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#interrupt.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      this.#interrupt = new AbortController();
      await this.#poll(this.#at, this.#interrupt.signal);
    }
  }

  async #poll(at: Position, signal: AbortSignal): Promise<void> {
    const path = `/v1/events?stream=${at.stream}&after=${at.after}&wait_ms=${this.#poll_wait_ms}`;
    const answer = await at.client.ask({ path, answer: events, bound_ms: this.#poll_wait_ms + POLL_GRACE_MS, signal });
    // Closed, or another agent is followed by now: what the former one said no longer counts.
    if (this.#closed || this.#at !== at) return;
    if (answer.type !== "ok") return this.#miss(signal);
    if (answer.value.type === "behind") return this.#catchUp(at, signal);
    this.#contact();
    this.#at = { ...at, after: answer.value.seq };
    for (const event of answer.value.events) this.#known.event(event);
  }

  async #catchUp(at: Position, signal: AbortSignal): Promise<void> {
    const answer = await at.client.ask({ path: "/v1/node", answer: snapshot, bound_ms: POLL_GRACE_MS, signal });
    if (this.#closed || this.#at !== at) return;
    if (answer.type !== "ok") return this.#miss(signal);
    this.#contact();
    this.#at = { ...at, stream: answer.value.stream, after: answer.value.seq };
    this.#known.snapshot(answer.value, "ended while its events were not read");
  }

  #contact(): void {
    this.#misses = 0;
    this.#last_contact = performance.now();
  }

  /** Also a renewal that had no answer. */
  missed(): void {
    this.#misses += 1;
    if (this.#misses === MISSES_TO_UNREACHABLE) this.#on_unreachable(Math.round(performance.now() - this.#last_contact));
  }

  async #miss(signal: AbortSignal): Promise<void> {
    this.missed();
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      const timer = setTimeout(resolve, MISS_PAUSE_MS);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
