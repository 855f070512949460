/**
 * One node on this machine: an agent process that we start or find, claim, renew and follow.
 *
 *   closed ──open──▶ claimed ──release──▶ closed      (GPUs given back, agent gone)
 *                      │  ▲
 *                close │  │ open, perhaps by the next gateway: adopts
 *                      ▼  │
 *                    closed, agent and groups as they are until the lease runs out
 *
 * The agent may die, hang or be replaced at any moment. Only `open`, `renew` and `release` start one; the follower and the
 * commands use the one that was last claimed, and say when it cannot be reached.
 */
import type { GroupId, NodeId } from "../../../schema/core/ids.ts";
import type { EngineCatalogueInput } from "../../node-agent/catalogue.ts";
import { engineCatalogue } from "../../node-agent/catalogue.ts";
import { isRunning } from "../../node-agent/processes.ts";
import type { Claimed } from "../../node-agent/wire.ts";
import { claimed, launched, released, stopped } from "../../node-agent/wire.ts";
import type { GroupSpec, LaunchOutcome, Provider, ProviderEvent, Provision, RunningGroup } from "../../ports/provider.ts";
import { Fenced } from "../../ports/provider.ts";
import type { AgentClient, Answer } from "./agent-client.ts";
import type { AgentPlace } from "./agent-process.ts";
import { DEFAULT_AGENT_COMMAND, agentGone, reachAgent } from "./agent-process.ts";
import { Follower } from "./follower.ts";
import { KnownGroups } from "./known-groups.ts";

const POLL_WAIT_MS = 2_000;
const COMMAND_BOUND_MS = 5_000;
/** Release waits for engines to end: the longest a catalogue allows from SIGTERM to SIGKILL, and some. */
const RELEASE_BOUND_MS = 70_000;
const AGENT_EXIT_BOUND_MS = 10_000;
/** Groups to stop, or whose launch had no answer, kept until the node is reached again: beyond it the oldest go. */
const OWED_STOPS_MAX = 256;
const LEASE_OVER = "the cell's lease is over";

export type LocalProviderOptions = {
  readonly state_dir: string;
  readonly node_id: NodeId;
  readonly gpus: number;
  readonly engines: EngineCatalogueInput;
  /** Program and first arguments; the flags follow. */
  readonly agent_command?: readonly string[];
  /** How long the agent may hold a poll for events; a hung agent is noticed after three of them. */
  readonly poll_wait_ms?: number;
};
type Owner = Parameters<Provider["open"]>[0];

export function createLocalProvider(options: LocalProviderOptions): Provider {
  return new LocalProvider(options);
}

type Claim = { readonly owner: Owner; readonly known: KnownGroups; readonly follower: Follower; client: AgentClient };

class LocalProvider implements Provider {
  readonly name = "local";
  readonly #place: AgentPlace;
  readonly #poll_wait_ms: number;
  readonly #owed_stops = new Set<GroupId>();
  #claim: Claim | null = null;
  /** open, renew, release and close one after another: each may replace the agent. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LocalProviderOptions) {
    const { state_dir, node_id, gpus, engines, agent_command = DEFAULT_AGENT_COMMAND, poll_wait_ms = POLL_WAIT_MS } = options;
    this.#poll_wait_ms = poll_wait_ms;
    this.#place = { state_dir, node_id, gpus, engines: engineCatalogue.parse(engines), agent_command };
  }

  open(owner: Owner, on_event: (event: ProviderEvent) => void): Promise<readonly RunningGroup[]> {
    return this.#inTurn(async () => {
      if (this.#claim !== null) throw new Error("the provider is open");
      const { client, answer } = await this.#claimNode(owner);
      const known = new KnownGroups((event) => {
        // A launch that we said was refused, because no answer came, and that happened all the same.
        if (event.type === "group" && this.#owed_stops.has(event.group.group_id)) this.#payStops().catch(() => {}); // fenced: the next renewal says so
        else on_event(event);
      });
      known.provisions(answer.provisions);
      known.adopt(answer.groups);
      const follower = new Follower({
        client,
        start: answer,
        known,
        poll_wait_ms: this.#poll_wait_ms,
        on_unreachable: (since_ms) => on_event({ type: "node_unreachable", node_id: this.#place.node_id, since_ms }),
      });
      this.#claim = { owner, known, follower, client };
      return answer.groups;
    });
  }

  async launch(spec: GroupSpec): Promise<LaunchOutcome> {
    if (this.#claim === null) return { type: "refused", reason: "the provider is not open" };
    const { known, client, owner } = this.#claim;
    if (owner.holds?.() === false) return { type: "refused", reason: LEASE_OVER };
    known.beginLaunch(spec.group_id);
    const answer = await client.ask({
      path: "/v1/groups/launch",
      answer: launched,
      body: command(owner, spec),
      bound_ms: COMMAND_BOUND_MS,
    });
    known.endLaunch(spec.group_id, answer.type === "ok" ? answer.value.group : null);
    if (answer.type === "ok") return { type: "launching", group: answer.value.group };
    if (answer.type === "unreachable") this.#oweStop(spec.group_id);
    return { type: "refused", reason: answer.type === "refused" ? `${answer.code}: ${answer.detail}` : `no answer: ${answer.reason}` };
  }

  async stop(group_id: GroupId): Promise<void> {
    if (this.#claim === null) return;
    const { client, owner } = this.#claim;
    checkHeld(owner);
    const answer = await client.ask({
      path: "/v1/groups/stop",
      answer: stopped,
      body: command(owner, { group_id }),
      bound_ms: COMMAND_BOUND_MS,
    });
    if (answer.type === "refused") throwIfFenced(answer);
    if (answer.type !== "ok") this.#oweStop(group_id);
  }

  renew(): ReturnType<Provider["renew"]> {
    return this.#inTurn(async () => {
      const claim = this.#claim;
      if (claim === null) return [];
      const answer = await this.#renewed(claim);
      if (answer === null) {
        claim.follower.missed();
        return [];
      }
      claim.known.provisions(answer.provisions);
      claim.follower.follow(claim.client, answer);
      await this.#payStops();
      return [{ node_id: this.#place.node_id, confirmed_at: answer.now }];
    });
  }

  release(): Promise<readonly Provision[]> {
    return this.#inTurn(async () => {
      const claim = this.#claim;
      if (claim === null) return [];
      const { owner, known, follower } = claim;
      checkHeld(owner);
      let answer = await askToRelease(claim.client, owner);
      if (answer.type !== "ok" && (await isGoneOrLeaving(claim.client, answer))) {
        // A dead agent has left its provision open, and only an agent can close it.
        const next = await this.#claimNode(owner);
        claim.client = next.client;
        known.provisions(next.answer.provisions);
        answer = await askToRelease(next.client, owner);
      }
      if (answer.type === "refused") throwIfFenced(answer);
      if (answer.type !== "ok") throw new Error(`the node was not released: ${answer.type === "refused" ? answer.detail : answer.reason}`);
      await follower.close();
      known.allStopped();
      this.#claim = null;
      const { file } = claim.client;
      if (!(await agentGone(file, AGENT_EXIT_BOUND_MS))) throw new Error(`the node agent does not exit, pid ${file.pid}`);
      return answer.value.provisions;
    });
  }

  close(): Promise<void> {
    return this.#inTurn(async () => {
      const claim = this.#claim;
      this.#claim = null;
      await claim?.follower.close();
    });
  }

  /** Claims what answers; waits for an agent that is leaving to be gone, and then starts the next. */
  async #claimNode(owner: Owner): Promise<{ readonly client: AgentClient; readonly answer: Claimed }> {
    for (;;) {
      checkHeld(owner);
      const client = await reachAgent(this.#place, owner.lease_ms);
      checkHeld(owner);
      const answer = await askToClaim(client, owner);
      if (answer.type === "ok") return { client, answer: answer.value };
      if (answer.type === "refused" && answer.code !== "node_leaving") {
        throwIfFenced(answer);
        throw new Error(`the node cannot be claimed: ${answer.detail}`);
      }
      if (!(await agentGone(client.file, RELEASE_BOUND_MS))) throw new Error(`the node agent does not answer, pid ${client.file.pid}`);
    }
  }

  /** Null when the node cannot be reached now. An agent that died is replaced. */
  async #renewed(claim: Claim): Promise<Claimed | null> {
    checkHeld(claim.owner);
    if (isRunning(claim.client.file)) {
      const answer = await askToClaim(claim.client, claim.owner);
      if (answer.type === "ok") return answer.value;
      if (answer.type === "refused") throwIfFenced(answer);
      if (isRunning(claim.client.file)) return null;
    }
    try {
      const { client, answer } = await this.#claimNode(claim.owner);
      claim.client = client;
      return answer;
    } catch (error) {
      if (error instanceof Fenced) throw error;
      return null;
    }
  }

  #oweStop(group_id: GroupId): void {
    this.#owed_stops.add(group_id);
    const [oldest] = this.#owed_stops;
    if (this.#owed_stops.size > OWED_STOPS_MAX && oldest !== undefined) this.#owed_stops.delete(oldest);
  }

  async #payStops(): Promise<void> {
    const owed = [...this.#owed_stops];
    this.#owed_stops.clear();
    for (const group_id of owed) await this.stop(group_id);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

const command = (owner: Owner, rest: object): object => ({ cell: owner.cell, epoch: owner.epoch, ...rest });

function askToClaim(client: AgentClient, owner: Owner): Promise<Answer<Claimed>> {
  return client.ask({ path: "/v1/claim", answer: claimed, body: command(owner, { lease_ms: owner.lease_ms }), bound_ms: COMMAND_BOUND_MS });
}

function askToRelease(client: AgentClient, owner: Owner): Promise<Answer<{ readonly provisions: readonly Provision[] }>> {
  return client.ask({ path: "/v1/release", answer: released, body: command(owner, {}), bound_ms: RELEASE_BOUND_MS });
}

async function isGoneOrLeaving(client: AgentClient, answer: Answer<unknown>): Promise<boolean> {
  if (answer.type === "refused" && answer.code === "node_leaving") return agentGone(client.file, RELEASE_BOUND_MS);
  return !isRunning(client.file);
}

/** A process that stood still wakes to timers that are due: none of them may act on a lease that ran out meanwhile (I13). */
function checkHeld(owner: Owner): void {
  if (owner.holds?.() === false) throw new Fenced(LEASE_OVER, null);
}

function throwIfFenced(answer: Extract<Answer<unknown>, { type: "refused" }>): void {
  if (answer.code === "stale_epoch" || answer.code === "node_claimed") throw new Fenced(answer.detail, answer.current_epoch);
}
