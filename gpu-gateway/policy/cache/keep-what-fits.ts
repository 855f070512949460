/**
 * Keeps what fits. Nothing is fetched ahead or thrown out: the engine evicts its least recently used blocks. What this adds is
 * a guess at what an instance still holds: the longest prompt placed there for the same tenant, program and agent, since the
 * calls of one agent within one program grow from the same beginning. A guess, not a promise: a wrong one costs placement
 * quality and shifts weights between neighbours, never correctness. Tenants never share an entry (I3).
 */
import type { InstanceId } from "../../../schema/core/ids.ts";
import type { CacheManagement } from "../policies.ts";
import type { Call, Instance } from "../vocabulary.ts";

export type KeepWhatFitsOptions = {
  /** Prompts remembered per instance at most (I8): at it, the least recently placed is forgotten. */
  readonly prompts_per_instance_max: number;
  /** Their tokens in all at most: what the engine can be taken to hold. At it, likewise. */
  readonly tokens_per_instance_max: number;
  /** The engine shares whole blocks only. */
  readonly block_tokens: number;
};

/** In order of placement, least recent first: a Map keeps insertion order. */
type Remembered = { readonly prompts: Map<string, number>; tokens: number };

export function keepWhatFits(options: KeepWhatFitsOptions): CacheManagement {
  const instances = new Map<InstanceId, Remembered>();
  // Routing asks about the same call for one instance after the other.
  let asked: Call | null = null;
  let key = "";
  const keyOf = (call: Call): string => {
    if (call !== asked) {
      asked = call;
      // Ids hold no space (schema/core/ids.ts), so that the parts cannot run together.
      key = `${call.tenant} ${call.program} ${call.agent ?? ""}`;
    }
    return key;
  };

  return {
    expected_hit_tokens(call: Call, instance: InstanceId): number {
      const seen = instances.get(instance)?.prompts.get(keyOf(call));
      if (seen === undefined) return 0;
      const shared = Math.min(seen, call.prompt_tokens - 1);
      return Math.max(0, shared - (shared % options.block_tokens));
    },

    placed(call: Call, { instance_id }: Instance): void {
      let remembered = instances.get(instance_id);
      if (remembered === undefined) {
        remembered = { prompts: new Map(), tokens: 0 };
        instances.set(instance_id, remembered);
      }
      const key = keyOf(call);
      const before = remembered.prompts.get(key) ?? 0;
      const longest = Math.max(before, call.prompt_tokens);
      remembered.prompts.delete(key);
      remembered.prompts.set(key, longest);
      remembered.tokens += longest - before;
      for (const [oldest, tokens] of remembered.prompts) {
        if (remembered.prompts.size <= options.prompts_per_instance_max && remembered.tokens <= options.tokens_per_instance_max) break;
        remembered.prompts.delete(oldest);
        remembered.tokens -= tokens;
      }
    },

    lost(instance: InstanceId): void {
      instances.delete(instance);
    },
  };
}
