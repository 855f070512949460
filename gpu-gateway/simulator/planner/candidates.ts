/**
 * Which configurations a cluster file allows on so many nodes: one, where it names its pools; else every shape, every split of nodes
 * (or instances) between prefill and decode, every policy set. In the order of their names, which say all of it: `P2×tp4 D3×tp4`.
 */
import { microsFromMs } from "../../../schema/core/time.ts";
import { MODELS, profileOf } from "../../engine-model/profile.ts";
import type { Role } from "../../policy/vocabulary.ts";
import type { ClusterSpec, PoolSpec } from "../types.ts";
import { type ClusterFile, engineOf, type EngineSettings, type Shape } from "./cluster-file.ts";
import { nameOf, type PolicySet } from "./policy-sets.ts";

export type Candidate = {
  readonly name: string;
  readonly nodes: number;
  readonly gpus: number;
  readonly gpus_used: number;
  readonly policies: PolicySet;
  readonly cluster: ClusterSpec;
};
/** Shapes that the engine model refuses, with why. */
export type Refused = { readonly name: string; readonly why: string };

/** Splits of one pair of shapes; of more, so many evenly spread ones are tried, the outermost among them. */
const SPLITS_MAX = 32;

type Sound = (shape: Shape, engine: EngineSettings) => boolean;
type Part = { readonly role: Role; readonly shape: Shape; readonly instances: number; readonly engine: EngineSettings };

export function candidatesOf(file: ClusterFile, nodes: number): { candidates: readonly Candidate[]; refused: readonly Refused[] } {
  const refused = new Map<string, string>();
  const context = contextOf(file);
  const sound = (shape: Shape, engine: EngineSettings): boolean => {
    const outcome = profileOf({ model: file.model, ...shape, all_reduce: file.all_reduce, gpus_per_node: file.gpus_per_node });
    const refuse = (why: string): boolean => {
      refused.set(shapeName(shape), why);
      return false;
    };
    if (outcome.type === "fault") return refuse(outcome.fault);
    const kv_tokens = engine.kv_tokens ?? outcome.profile.kv_tokens;
    if (kv_tokens < context) return refuse(`KV for ${kv_tokens} tokens is less than one context of ${context}`);
    return true;
  };
  const layouts = (file.pools === undefined ? searched(file, nodes, sound) : [named(file, sound)]).filter((parts) => parts.length > 0);
  const candidates = layouts
    .flatMap((parts) => file.policies.map((policies) => candidate(file, nodes, parts, policies)))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return { candidates, refused: [...refused].map(([name, why]) => ({ name, why })) };
}

function named(file: ClusterFile, sound: Sound): readonly Part[] {
  const parts = (file.pools ?? []).map(({ role, instances, tp, pp, engine }): Part => ({
    role,
    instances,
    shape: { tp, pp },
    engine: engineOf(file.engine, engine),
  }));
  return parts.map(({ shape, engine }) => sound(shape, engine)).every(Boolean) ? parts : [];
}

function searched(file: ClusterFile, nodes: number, sound: Sound): readonly Part[][] {
  const { search } = file;
  if (search === undefined) return [];
  const gpus = nodes * file.gpus_per_node;
  const layouts: Part[][] = [];
  const engines = {
    both: engineOf(file.engine, search.engine.colocated),
    prefill: engineOf(file.engine, search.engine.prefill),
    decode: engineOf(file.engine, search.engine.decode),
  };
  for (const shape of search.colocated.filter((each) => sound(each, engines.both))) {
    const most = Math.floor(gpus / gpusOf(shape));
    for (let instances = search.partial ? 1 : most; instances <= most && instances > 0; instances++)
      layouts.push([{ role: "both", shape, instances, engine: engines.both }]);
  }
  const by_node = (search.split_by ?? (nodes >= 3 ? "node" : "instance")) === "node";
  const decodes = search.decode.filter((each) => sound(each, engines.decode));
  for (const prefill of search.prefill.filter((each) => sound(each, engines.prefill))) {
    for (const decode of decodes) {
      const splits = by_node
        ? splitsByNode(nodes, file.gpus_per_node, prefill, decode)
        : splitsByInstance(gpus, prefill, decode, search.partial);
      for (const [p, d] of spread(splits)) {
        layouts.push([
          { role: "prefill", shape: prefill, instances: p, engine: engines.prefill },
          { role: "decode", shape: decode, instances: d, engine: engines.decode },
        ]);
      }
    }
  }
  return layouts.filter((parts) => parts.every(({ instances }) => instances <= (search.instances_max ?? Infinity)));
}

type Split = readonly [prefill: number, decode: number];

function splitsByNode(nodes: number, gpus_per_node: number, prefill: Shape, decode: Shape): Split[] {
  const splits: Split[] = [];
  for (let n = 1; n < nodes; n++) {
    const p = Math.floor((n * gpus_per_node) / gpusOf(prefill));
    const d = Math.floor(((nodes - n) * gpus_per_node) / gpusOf(decode));
    if (p > 0 && d > 0) splits.push([p, d]);
  }
  return splits;
}

function splitsByInstance(gpus: number, prefill: Shape, decode: Shape, partial: boolean): Split[] {
  const splits: Split[] = [];
  for (let p = 1; p * gpusOf(prefill) < gpus; p++) {
    const most = Math.floor((gpus - p * gpusOf(prefill)) / gpusOf(decode));
    for (let d = partial ? 1 : most; d <= most && d > 0; d++) splits.push([p, d]);
  }
  return splits;
}

function spread(splits: readonly Split[]): readonly Split[] {
  if (splits.length <= SPLITS_MAX) return splits;
  return Array.from({ length: SPLITS_MAX }, (_, i) => splits[Math.round((i * (splits.length - 1)) / (SPLITS_MAX - 1))]).filter(
    (split) => split !== undefined,
  );
}

function candidate(file: ClusterFile, nodes: number, parts: readonly Part[], policies: PolicySet): Candidate {
  const context_tokens = contextOf(file);
  const layout = parts.map(({ role, shape, instances }) => `${ROLE_LETTER[role]}${instances}×${shapeName(shape)}`).join(" ");
  return {
    name: `${layout} · ${nameOf(policies)}`,
    nodes,
    gpus: nodes * file.gpus_per_node,
    gpus_used: parts.reduce((gpus, { shape, instances }) => gpus + instances * gpusOf(shape), 0),
    policies,
    cluster: {
      name: file.name,
      nodes,
      gpus_per_node: file.gpus_per_node,
      pools: parts.map(({ role, shape, instances, engine }): PoolSpec => ({
        model: file.model,
        role,
        instances,
        tp: shape.tp,
        pp: shape.pp,
        slots: engine.slots,
        step_tokens: engine.step_tokens,
        prefill_tokens_max: engine.prefill_tokens_max,
        kv_tokens: engine.kv_tokens,
        context_tokens,
        kv_lease: microsFromMs(engine.kv_lease_ms),
        batching: engine.batching,
      })),
      all_reduce: file.all_reduce,
      link_delay: microsFromMs(file.link_delay_ms),
    },
  };
}

/** The file may say more than the model was published with: weights of the same shape exist for longer contexts. */
const contextOf = (file: ClusterFile): number => file.context_tokens ?? MODELS[file.model]?.context_tokens ?? 0;
const ROLE_LETTER = { prefill: "P", decode: "D", both: "C" } as const;
const gpusOf = (shape: Shape): number => shape.tp * shape.pp;
const shapeName = ({ tp, pp }: Shape): string => `tp${tp}${pp > 1 ? `pp${pp}` : ""}`;
