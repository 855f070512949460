/** A recording as the comparison reads it: the policies, the instances, and what was told of each call. */
import { readFileSync } from "node:fs";
import type { PolicyChoice } from "../../../gpu-gateway/policy/catalogue.ts";
import type { Effect } from "../../../gpu-gateway/policy/effects.ts";
import type { SchedulerEvent } from "../../../gpu-gateway/policy/events.ts";
import type { Decision, DecisionsFooter, DecisionsHeader } from "../../../gpu-gateway/policy/recording.ts";
import type { Call, Instance } from "../../../gpu-gateway/policy/vocabulary.ts";

export type ToldCall = {
  readonly call: Call;
  /** What was told of it, in order, by kind; progress left out. */
  readonly kinds: string[];
  /** When, policy time. */
  readonly at: Map<string, number>;
  placed: readonly string[];
  /** As the engines reported them. */
  prompt_tokens: number;
  cached_tokens: number;
  output_tokens: number;
};
export type Recorded = {
  readonly policies: PolicyChoice;
  readonly instances: readonly Instance[];
  readonly calls: ReadonlyMap<string, ToldCall>;
  readonly footer: DecisionsFooter;
};

export function readRecording(file: string): Recorded {
  const [header, ...rest] = readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as unknown);
  const footer = rest.pop() as DecisionsFooter;
  const told = new Told();
  for (const { event, effects, at } of rest as Decision[]) told.event(event, effects, at);
  return { policies: (header as DecisionsHeader).policies, instances: told.instances, calls: told.calls, footer };
}

/** Gathers what is told of calls: of a recording, and of a virtual cluster as it runs. */
export class Told {
  readonly instances: Instance[] = [];
  readonly calls = new Map<string, ToldCall>();
  readonly #legs = new Map<string, { readonly call: ToldCall; readonly role: string }>();

  event(event: SchedulerEvent, effects: readonly Effect[], at: number): void {
    if (event.type === "group_launched") this.instances.push(...event.instances);
    if (event.type === "call_arrived") {
      const made: ToldCall = {
        call: event.call,
        kinds: [],
        at: new Map(),
        placed: [],
        prompt_tokens: 0,
        cached_tokens: 0,
        output_tokens: 0,
      };
      this.calls.set(event.call.call_id, made);
      note(made, event.type, at);
    } else if ("leg_id" in event && event.type !== "leg_progress") {
      const leg = this.#legs.get(event.leg_id);
      if (leg !== undefined) note(leg.call, `${leg.role} ${event.type}`, at);
      if (leg !== undefined && event.type === "leg_finished") {
        const { prompt_tokens, cached_tokens, completion_tokens } = event.usage;
        if (leg.role === "prefill") Object.assign(leg.call, { prompt_tokens, cached_tokens });
        else leg.call.output_tokens = completion_tokens;
      }
    }
    for (const effect of effects) {
      if (effect.type !== "start_leg") continue;
      const call = this.calls.get(effect.call_id);
      if (call === undefined) continue;
      this.#legs.set(effect.leg_id, { call, role: effect.role });
      call.placed = [...call.placed, effect.instance_id];
    }
  }
}

function note(call: ToldCall, kind: string, at: number): void {
  call.kinds.push(kind);
  if (!call.at.has(kind)) call.at.set(kind, at);
}
