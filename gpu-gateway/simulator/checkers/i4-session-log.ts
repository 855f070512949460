/**
 * I4: a session's log has no gaps and no duplicates, and what a client has seen was durable first. `seq` counts from 1 in what is stored and in
 * what each client sees, whatever was cut in between; the words of each answer, which are numbered, stand in the log each once and in order, and
 * of an answer that came to its end all that the engine produced.
 */
import type { CallId, SessionId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { Logged, SessionFact } from "../sessions/facts.ts";
import { wordsFrom } from "../sessions/words.ts";
import { Books } from "./checker.ts";

export class SessionLogChecker extends Books {
  readonly invariant = "I4";
  readonly #stored = new Map<SessionId, string[]>();
  readonly #seen = new Map<SessionId, number>();
  readonly #words = new Map<CallId, number>();
  readonly #produced = new Map<CallId, number>();

  session(fact: SessionFact, now: Micros): void {
    switch (fact.type) {
      case "produced":
        this.#produced.set(fact.call, fact.tokens);
        return;
      case "stored":
        for (const event of fact.events) this.#store(fact.session, event, now);
        return;
      case "seen":
        this.#see(fact.session, fact.event, now);
        return;
      case "link_breach":
        this.check(false, now, () => `${fact.session}: ${fact.words}`);
        return;
      case "sent":
    }
  }

  override end(now: Micros): void {
    for (const [session, log] of this.#stored)
      this.check(
        this.#seen.get(session) === log.length,
        now,
        () => `the client of ${session} saw ${this.#seen.get(session) ?? 0} of ${log.length} events`,
      );
  }

  #store(session: SessionId, event: Logged, now: Micros): void {
    const log = this.#stored.get(session) ?? [];
    this.#stored.set(session, log);
    this.check(event.seq === log.length + 1, now, () => `${session} stored event ${event.seq} after ${log.length}`);
    log.push(JSON.stringify(event));
    if (event.type === "delta") {
      const before = this.#words.get(event.call) ?? 0;
      const words = wordsFrom(before, event.text);
      this.check(words !== null, now, () => `${session} has "${event.text.slice(0, 40)}" of ${event.call} after word ${before}`);
      this.#words.set(event.call, before + (words ?? 0));
    } else if (event.type === "call_over" && event.how === "done") {
      const [words, produced] = [this.#words.get(event.call) ?? 0, this.#produced.get(event.call) ?? 0];
      this.check(words === produced, now, () => `${session} has ${words} of the ${produced} words of ${event.call}, which is done`);
    }
  }

  #see(session: SessionId, event: Logged, now: Micros): void {
    const before = this.#seen.get(session) ?? 0;
    this.check(event.seq === before + 1, now, () => `the client of ${session} saw event ${event.seq} after ${before}`);
    const stored = this.#stored.get(session)?.[event.seq - 1];
    this.check(stored === JSON.stringify(event), now, () => `the client of ${session} saw event ${event.seq}, which is not stored so`);
    this.#seen.set(session, event.seq);
  }
}
