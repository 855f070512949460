/**
 * What prompts begin with, as the gateway would name it: the tenant's instructions, then what the session said so far. Two tenants may have
 * the same instructions, word for word: their blocks have different names, because the salt is the tenant's (I3).
 */
import { blockHashes } from "../../engine-model/block-hash.ts";
import type { Prefix } from "../../policy/vocabulary.ts";
import type { CallPlan } from "./scenario.ts";

const BLOCK_TOKENS = 16;

export function prefixOf(tenant: string, session: string, plan: CallPlan, salted: boolean): Prefix {
  const { instructions, instruction_tokens, prompt_tokens } = plan;
  const said = (from: number): string => (from < instruction_tokens ? `i${instructions}:${from}` : `${session}:${from}`);
  return { block_tokens: BLOCK_TOKENS, blocks: blockHashes(prompt_tokens, (from) => said(from), salted ? tenant : "") };
}
