/**
 * Clients that work through sessions: so many at once; whoever ends one begins the next. A session is a script (trace.ts): a tree of
 * calls, in which each follows from the end of the one before it in its branch, after tools or thought.
 *
 * A branch is in one of three states: waiting for its sub-agents, waiting for its call's end, or over. What follows from an instant
 * is known at once, because everything between two calls has a known length: so `advance` gives arrivals that lie ahead.
 *
 * A call that fails is not sent again; its session goes on as if it had been answered.
 */
import { micros } from "../../../schema/core/time.ts";
import type { Call, CallOutcome } from "../../policy/vocabulary.ts";
import type { Arrival, Clients } from "../types.ts";
import { type CallShape, numbered, simCall } from "./calls.ts";
import { chained, saltOf } from "./prefix-chain.ts";
import type { Script, Session } from "./trace.ts";

export type ClosedLoopOptions = {
  /** Sessions that go on at once. */
  readonly users: number;
  /** Users begin this far apart. */
  readonly stagger_us: number;
  /** Longer gaps between calls are cut to this. */
  readonly gap_us_max: number;
  /** Sessions in all. More than there are: they begin again from the first, each time with prompts of their own, unless in a stated scope. */
  readonly sessions: number;
  /** After so many calls no more are sent. */
  readonly calls_max: number | null;
};

export interface SessionSource {
  readonly block_tokens: number;
  readonly count: number;
  session(nth: number): Session;
}

type Branch = {
  readonly user: Run;
  readonly script: Script;
  readonly parent: Branch | null;
  step: number;
  forks_running: number;
  forks_end: number;
  blocks: readonly number[];
};
type Run = { readonly id: string; readonly salt: number; calls: number };

export function closedLoop(source: SessionSource, options: ClosedLoopOptions, shape: CallShape): Clients {
  const waiting = new Map<string, Branch>();
  let begun = 0;
  let sent = 0;

  /** Null when all sessions have begun. */
  function begin(at: number, arrivals: Arrival[]): void {
    if (begun >= options.sessions) return;
    const nth = begun++;
    const session = source.session(nth % source.count);
    const copy = Math.floor(nth / source.count);
    const id = copy === 0 ? session.id : `${session.id}.${copy}`;
    advance(branch({ id, salt: saltOf(session.scope ?? id), calls: 0 }, session.script, null), at, arrivals);
  }

  const branch = (user: Run, script: Script, parent: Branch | null): Branch => ({
    user,
    script,
    parent,
    step: 0,
    forks_running: 0,
    forks_end: 0,
    blocks: [],
  });

  /** The branch is at the beginning of its step at `at`. */
  function advance(at_branch: Branch, at: number, arrivals: Arrival[]): void {
    const step = at_branch.script[at_branch.step];
    if (step === undefined) return over(at_branch, at, arrivals);
    if (step.forks.length === 0) return send(at_branch, at, arrivals);
    at_branch.forks_running = step.forks.length;
    at_branch.forks_end = at;
    for (const script of step.forks) advance(branch(at_branch.user, script, at_branch), at, arrivals);
  }

  function send(at_branch: Branch, ready_at: number, arrivals: Arrival[]): void {
    const step = at_branch.script[at_branch.step++];
    if (step === undefined) return;
    const at = ready_at + Math.min(step.gap_us, options.gap_us_max);
    if (step.call === null) return advance(at_branch, at, arrivals);
    if (options.calls_max !== null && sent >= options.calls_max) return;
    sent++;
    const { user } = at_branch;
    at_branch.blocks = chained(user.salt, at_branch.blocks.slice(0, step.call.keep), step.call.fresh);
    const id = `${user.id}/${numbered(user.calls++)}`;
    const parts = { ...step.call, id, at, tenant: "trace", program: user.id, block_tokens: source.block_tokens, blocks: at_branch.blocks };
    waiting.set(id, at_branch);
    arrivals.push({ at: micros(at), sim: simCall(parts, shape) });
  }

  function over({ parent }: Branch, at: number, arrivals: Arrival[]): void {
    if (parent === null) return begin(at, arrivals);
    parent.forks_end = Math.max(parent.forks_end, at);
    if (--parent.forks_running === 0) send(parent, parent.forks_end, arrivals);
  }

  const first: Arrival[] = [];
  for (let user = 0; user < options.users; user++) begin(user * options.stagger_us, first);
  first.sort((a, b) => a.at - b.at || (a.sim.call.call_id < b.sim.call.call_id ? -1 : 1));
  let next = 0;
  return {
    first: () => first[next++] ?? null,
    ended(call: Call, _outcome: CallOutcome, at): readonly Arrival[] {
      const ended = waiting.get(call.call_id);
      if (ended === undefined) return [];
      waiting.delete(call.call_id);
      const arrivals: Arrival[] = [];
      advance(ended, at, arrivals);
      return arrivals;
    },
  };
}
