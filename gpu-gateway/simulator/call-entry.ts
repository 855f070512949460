/** One call in flight at the gateway: what runtime/calls.ts keeps of it that policy and metering hear of, and its times. */
import type { LegId } from "../../schema/core/ids.ts";
import type { CallTags } from "../policy/metering/records.ts";
import type { Call, CallOutcome, LegUsage } from "../policy/vocabulary.ts";
import type { Leg } from "./leg.ts";
import type { CallTimes, SimCall } from "./types.ts";

export class CallEntry {
  /** As the client sent it. */
  readonly sim: SimCall;
  /** As policy has it: it arrived at the gateway. */
  readonly call: Call;
  readonly sent_at: number;
  readonly legs = new Map<LegId, Leg>();
  accepted = false;
  emitted = 0;
  /** As the prefill leg (or the only leg) said. */
  prompt: { readonly tokens: number; readonly cached: number } | null = null;
  started: number | null = null;
  first_token: number | null = null;
  last_token: number | null = null;
  prefill: string | null = null;
  decode: string | null = null;
  transfer: number | null = null;

  constructor(sim: SimCall, call: Call, sent_at: number) {
    this.sim = sim;
    this.call = call;
    this.sent_at = sent_at;
  }

  /** What the client is billed for: prompt and cached tokens from the prefill leg, completion tokens from decode (D5). */
  usage(outcome: CallOutcome): LegUsage {
    const said = outcome.type === "done" ? outcome.usage : null;
    return {
      prompt_tokens: this.prompt?.tokens ?? said?.prompt_tokens ?? 0,
      cached_tokens: this.prompt?.cached ?? said?.cached_tokens ?? 0,
      completion_tokens: said?.completion_tokens ?? this.emitted,
    };
  }

  /** At the client, `link_delay` from the gateway. */
  times(outcome: CallOutcome, ended: number, link_delay: number): CallTimes {
    const heard = (at: number | null) => (at === null ? null : at + link_delay) as CallTimes["first_token"];
    return {
      call: this.sim.call,
      outcome,
      arrived: this.sent_at as CallTimes["arrived"],
      started: this.started as CallTimes["started"],
      first_token: heard(this.first_token),
      last_token: heard(this.last_token),
      ended: ended as CallTimes["ended"],
      output_tokens: this.emitted,
      cached_tokens: this.prompt?.cached ?? 0,
      prefill: this.prefill,
      decode: this.decode,
      transfer: this.transfer as CallTimes["transfer"],
    };
  }
}

/** The simulation knows tenants, programs and agents; the rest of who a call is for is the same for all. */
export function tagsOf({ tenant, program, agent, model }: Call): CallTags {
  return { tenant, project: "simulated", function: null, version: null, run: null, session: null, program, agent, model, key: "simulated" };
}
