/** Reads a recording of decisions (policy/recording.ts) line by line: what each one is, or what is wrong with it. */
import { z } from "zod";

import {
  type Decision,
  DECISIONS_ENDS,
  DECISIONS_FORMAT,
  DECISIONS_VERSION,
  type DecisionsFooter,
  type DecisionsHeader,
} from "../../policy/recording.ts";
import { jsonObject, shown } from "../traces/lines.ts";

export type Line =
  | { readonly type: "header"; readonly header: DecisionsHeader }
  | { readonly type: "decision"; readonly decision: Decision }
  | { readonly type: "footer"; readonly footer: DecisionsFooter }
  | { readonly type: "malformed"; readonly what: string };

const id = z.string().min(1);
const tokens = z.int().min(0);
/** What the scheduler reads of an event; more may be there. */
const event = z.discriminatedUnion("type", [
  z.looseObject({
    type: z.literal("call_arrived"),
    call: z.looseObject({
      call_id: id,
      tenant: id,
      program: id,
      model: id,
      arrived: z.int(),
      deadline: z.int(),
      prompt_tokens: tokens,
      max_tokens: tokens,
      splittable: z.boolean(),
      prefix: z.looseObject({ block_tokens: z.int().min(1), blocks: z.array(z.int()) }).optional(),
    }),
  }),
  z.looseObject({ type: z.literal("call_cancelled"), call_id: id, reason: z.string() }),
  z.looseObject({ type: z.literal("leg_accepted"), leg_id: id }),
  z.looseObject({ type: z.literal("leg_first_token"), leg_id: id }),
  z.looseObject({ type: z.literal("leg_progress"), leg_id: id, tokens }),
  z.looseObject({
    type: z.literal("leg_finished"),
    leg_id: id,
    usage: z.looseObject({ prompt_tokens: tokens, cached_tokens: tokens, completion_tokens: tokens }),
    finish_reason: z.string(),
  }),
  z.looseObject({
    type: z.literal("leg_failed"),
    leg_id: id,
    error: z.looseObject({ cause: z.string(), failure: z.looseObject({ code: z.string() }) }),
    tokens,
  }),
  z.looseObject({ type: z.literal("leg_cancelled"), leg_id: id, tokens }),
  z.looseObject({ type: z.literal("kv_released"), leg_id: id }),
  z.looseObject({
    type: z.literal("group_launched"),
    group_id: id,
    instances: z.array(z.looseObject({ instance_id: id, group_id: id, model: id, role: z.string(), slots: z.int(), kv_tokens: z.int() })),
  }),
  z.looseObject({ type: z.literal("instance_state"), instance_id: id, state: z.string() }),
  z.looseObject({ type: z.literal("group_lost"), group_id: id, reason: z.string() }),
  z.looseObject({ type: z.literal("group_stopped"), group_id: id }),
  z.looseObject({ type: z.literal("instance_sampled"), instance_id: id }),
  z.looseObject({ type: z.literal("launch_failed"), effect_id: id, reason: z.string() }),
  z.looseObject({ type: z.literal("timer") }),
]);
const decision = z.strictObject({ at: z.int().min(0), event, effects: z.array(z.looseObject({ type: z.string() })) });
const footer = z.strictObject({
  end: z.enum(DECISIONS_ENDS),
  events: z.int().min(0),
  digest: z.string().regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits"),
});
const header = z.strictObject({
  format: z.literal(DECISIONS_FORMAT),
  version: z.literal(DECISIONS_VERSION),
  policies: z.strictObject({
    names: z.record(z.string(), z.string()),
    scope: z.string(),
    targets: z.array(z.strictObject({ model: id, role: z.enum(["prefill", "decode", "both"]), groups: z.int().min(0) })),
    queued_per_model_max: z.int().min(1),
    limits: z.record(z.string(), z.int().min(1)),
    parameters: z.looseObject({}),
  }),
});

/** The text is taken as it is read: a schema that copied it could change the order of fields, and with it the digest. */
export function readLine(text: string, first: boolean): Line {
  const json = jsonObject(text);
  if (typeof json === "string") return { type: "malformed", what: `the line ${json}` };
  if (first) {
    if (json["format"] !== DECISIONS_FORMAT)
      return { type: "malformed", what: "not a recording of decisions: its first line names no such format" };
    if (json["version"] !== DECISIONS_VERSION)
      return { type: "malformed", what: `version ${shown(json["version"])} of the format; this reads ${DECISIONS_VERSION}` };
    return fault(header, json) ?? { type: "header", header: json as unknown as DecisionsHeader };
  }
  if ("end" in json) return fault(footer, json) ?? { type: "footer", footer: json as unknown as DecisionsFooter };
  return fault(decision, json) ?? { type: "decision", decision: json as unknown as Decision };
}

function fault(schema: z.ZodType, json: unknown): Line | null {
  const parsed = schema.safeParse(json);
  if (parsed.success) return null;
  const [issue] = parsed.error.issues;
  return { type: "malformed", what: `${issue?.path.join(".") || "the line"}: ${issue?.message ?? "is wrong"}` };
}
