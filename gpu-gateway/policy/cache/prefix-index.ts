/**
 * Knows what each instance holds, block by block, from the hashes of the prompts placed there (`Call.prefix`). A hash names everything
 * before it, so what an instance holds of a prompt is the longest run of its leading blocks that are known there; and since a block is
 * never forgotten before those that follow it, that run is found by halving: 13 look-ups for 8,192 blocks (bench/policy/hot-paths.ts
 * measures it).
 *
 *  - Each instance has its own least-recently-used list of blocks. A placement renews its blocks from the last to the first, so that
 *    a block is always renewed after what follows it: the oldest of all is a leaf, and goes first.
 *  - Bounded (I8) by the KV tokens of the instance, less what `kv_share` keeps for what runs, and by `blocks_per_instance_max`.
 *  - Tenants never share: hashes begin with the tenant's salt (I3), and as if they did not, each tenant's blocks are kept apart.
 *  - What it cannot see: blocks of answers (their tokens are not known here), evictions by the engine in another order, and prompts
 *    that reached the engine by other ways. A wrong guess costs placement quality, never correctness.
 *
 * A call that says nothing of its prefix is answered by `otherwise`.
 */
import type { InstanceId } from "../../../schema/core/ids.ts";
import type { CacheManagement } from "../policies.ts";
import type { Call, Instance, Prefix } from "../vocabulary.ts";
import { InstanceBlocks } from "./instance-blocks.ts";

export type PrefixIndexOptions = {
  /** Blocks remembered per instance at most (I8), however small they are. */
  readonly blocks_per_instance_max: number;
  /** Of an instance's KV tokens, how much prefixes may take: above 0, at most 1. */
  readonly kv_share: number;
  /** Answers for calls without a prefix. */
  readonly otherwise: CacheManagement;
};

export function prefixIndex(options: PrefixIndexOptions): CacheManagement {
  const { otherwise, blocks_per_instance_max, kv_share } = options;
  const instances = new Map<InstanceId, InstanceBlocks>();

  return {
    expected_hit_tokens(call, instance) {
      const { prefix, tenant, prompt_tokens } = call;
      if (prefix === undefined) return otherwise.expected_hit_tokens(call, instance);
      const blocks = instances.get(instance)?.leading(tenant, prefix.blocks) ?? 0;
      return Math.min(blocks, wholeBlocks(prefix, prompt_tokens - 1)) * prefix.block_tokens;
    },

    placed(call: Call, instance: Instance) {
      const { prefix, tenant, prompt_tokens } = call;
      if (prefix === undefined) {
        otherwise.placed(call, instance);
        return;
      }
      let known = instances.get(instance.instance_id);
      if (known === undefined) {
        known = new InstanceBlocks(Math.floor(instance.kv_tokens * kv_share), blocks_per_instance_max);
        instances.set(instance.instance_id, known);
      }
      known.renew(tenant, prefix, Math.min(prefix.blocks.length, wholeBlocks(prefix, prompt_tokens)));
    },

    lost(instance) {
      instances.delete(instance);
      otherwise.lost(instance);
    },
  };
}

/** Engines share whole blocks only, and compute at least the last token: hence `prompt_tokens - 1` above. */
const wholeBlocks = ({ block_tokens }: Prefix, tokens: number): number => Math.max(0, Math.floor(tokens / block_tokens));
