/**
 * The nodes and what runs on them, whoever commands: the counterpart of a provider and its node agents. A group is one instance here.
 * An instance wider than a node lies on consecutive nodes, which are then stated as one, since a metered group has one node.
 */
import type { GroupId, InstanceId, NodeId } from "../../schema/core/ids.ts";
import { asId } from "../../schema/core/ids.ts";
import { loadUs, profileOf, type ModelProfile } from "../engine-model/profile.ts";
import type { Endpoint } from "../engine-model/transfer.ts";
import type { Role } from "../policy/vocabulary.ts";
import type { ClusterSpec, PoolSpec } from "./types.ts";
import { VirtualEngine, type EngineWorld } from "./virtual-engine.ts";
import type { Wire } from "./wire.ts";

/** How soon a node agent's report of a dead process is with the gateway. */
const DEATH_NOTICED_US = 250_000;

export type VirtualNode = { readonly node_id: NodeId; readonly gpus: Endpoint; readonly taken: Set<number> };
export type VirtualGroup = {
  readonly group_id: GroupId;
  readonly pool: PoolSpec;
  readonly node: VirtualNode;
  readonly gpu_indices: readonly number[];
  readonly engine: VirtualEngine;
  /** When its engine answers. */
  readonly ready_at: number;
};
/** Null while no gateway listens. */
export type MachinesListener = (event: { readonly type: "group_lost" | "group_stopped"; readonly group_id: GroupId }) => void;

type Kind = { readonly pool: PoolSpec; readonly profile: ModelProfile; readonly kv_tokens: number };

export class Machines {
  readonly nodes: readonly VirtualNode[];
  readonly groups = new Map<GroupId, VirtualGroup>();
  /** All that there ever were, in the order of launching. */
  readonly engines: VirtualEngine[] = [];
  listener: MachinesListener | null = null;
  readonly #world: EngineWorld;
  readonly #wire: Wire;
  readonly #kinds: readonly Kind[];
  readonly #named = new Map<Role, number>();

  constructor(world: EngineWorld, wire: Wire, cluster: ClusterSpec) {
    this.#world = world;
    this.#wire = wire;
    this.#kinds = cluster.pools.map((pool) => kindOf(pool, cluster));
    this.nodes = nodesOf(cluster);
    for (const kind of this.#kinds)
      for (let n = 0; n < kind.pool.instances; n++) {
        const group_id = asId<"group">(`grp-${kind.pool.role}-${numbered(n + 1)}`);
        if (this.#place(group_id, kind, 0) === null) throw new RangeError(noRoom(kind.pool, n, cluster));
      }
  }

  /** Null: no node has the GPUs free. It loads, then it is ready. */
  launch(group_id: GroupId, model: string, role: Role): VirtualGroup | "unknown" | null {
    const kind = this.#kinds.find(({ pool }) => pool.model === model && pool.role === role);
    if (kind === undefined) return "unknown";
    return this.#place(group_id, kind, this.#world.clock.now + loadUs(kind.profile));
  }

  /** As soon as its node can be reached. */
  stop(group_id: GroupId): void {
    const group = this.groups.get(group_id);
    if (group === undefined) return;
    const reached = this.#wire.reachedAt(group.node.node_id);
    this.#world.clock.alarm(reached, () => this.#end(group_id, "group_stopped", this.#world.link_delay));
  }

  /** False: it is not there, or dead already. */
  kill(instance_id: InstanceId): boolean {
    const group = [...this.groups.values()].find(({ engine }) => engine.instance_id === instance_id);
    if (group === undefined || !group.engine.alive) return false;
    this.#end(group.group_id, "group_lost", DEATH_NOTICED_US);
    return true;
  }

  #end(group_id: GroupId, type: "group_lost" | "group_stopped", notice_us: number): void {
    const group = this.groups.get(group_id);
    if (group === undefined) return;
    const { clock } = this.#world;
    if (group.engine.alive) group.engine.kill();
    clock.alarm(Math.max(clock.now, this.#wire.reachedAt(group.node.node_id)) + notice_us, () => {
      if (!this.groups.delete(group_id)) return;
      for (const index of group.gpu_indices) group.node.taken.delete(index);
      this.listener?.({ type, group_id });
    });
  }

  /** Where most GPUs are free, so that pools mix on nodes; of equals the first. */
  #place(group_id: GroupId, { pool, profile, kv_tokens }: Kind, ready_at: number): VirtualGroup | null {
    let best: VirtualNode | null = null;
    const free = (node: VirtualNode) => node.gpus.length - node.taken.size;
    for (const node of this.nodes) if (free(node) >= profile.gpus && (best === null || free(node) > free(best))) best = node;
    if (best === null) return null;
    const { gpus, taken } = best;
    const gpu_indices = gpus.flatMap((_, index) => (taken.has(index) ? [] : [index])).slice(0, profile.gpus);
    for (const index of gpu_indices) taken.add(index);
    const number = (this.#named.get(pool.role) ?? 0) + 1;
    this.#named.set(pool.role, number);
    const instance_id = asId<"instance">(`${pool.role}-${numbered(number)}`);
    const used = gpu_indices.flatMap((index) => gpus[index] ?? []);
    const engine = new VirtualEngine(this.#world, { instance_id, node_id: best.node_id, pool, profile, kv_tokens, gpus: used });
    const group = { group_id, pool, node: best, gpu_indices, engine, ready_at };
    this.engines.push(engine);
    this.groups.set(group_id, group);
    return group;
  }
}

function kindOf(pool: PoolSpec, { name, all_reduce, gpus_per_node }: ClusterSpec): Kind {
  const { model, tp, pp } = pool;
  const outcome = profileOf({ model, tp, pp, all_reduce, gpus_per_node });
  if (outcome.type === "fault") throw new RangeError(`cluster ${name}: ${outcome.fault}`);
  return { pool, profile: outcome.profile, kv_tokens: pool.kv_tokens ?? outcome.profile.kv_tokens };
}

/** Nodes as wide as the widest instance needs them to be. */
function nodesOf({ nodes, gpus_per_node, pools }: ClusterSpec): VirtualNode[] {
  const joined = Math.max(1, ...pools.map(({ tp, pp }) => Math.ceil((tp * pp) / gpus_per_node)));
  return Array.from({ length: Math.floor(nodes / joined) }, (_, n) => ({
    node_id: asId<"node">(joined === 1 ? `node-${numbered(n + 1)}` : `nodes-${numbered(n * joined + 1)}-${numbered((n + 1) * joined)}`),
    gpus: Array.from({ length: joined * gpus_per_node }, (__, gpu) => ({
      node: n * joined + Math.floor(gpu / gpus_per_node),
      gpu: gpu % gpus_per_node,
    })),
    taken: new Set<number>(),
  }));
}

function noRoom({ model, role, instances, tp, pp }: PoolSpec, placed: number, { name, nodes, gpus_per_node }: ClusterSpec): string {
  const wanted = `${instances} ${role} instances of ${model} on ${tp * pp} GPUs each`;
  return `cluster ${name}: ${wanted} do not fit beside the other pools on ${nodes} nodes of ${gpus_per_node} (${placed} do): take fewer, or more nodes`;
}

/** Such that the order of names is the order of numbers. */
const numbered = (n: number): string => String(n).padStart(3, "0");
