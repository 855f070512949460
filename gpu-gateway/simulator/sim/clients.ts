/** The scenario's sessions, made: each an edge session on a lossy link with the client of its user, and the calls that it will make. */
import { asId, callId, type CallId } from "../../../schema/core/ids.ts";
import type { Micros } from "../../../schema/core/time.ts";
import type { GatewayDoor } from "../sessions/door.ts";
import { EdgeSession, type SessionStep } from "../sessions/edge-session.ts";
import type { SessionFact } from "../sessions/facts.ts";
import type { LinkClock } from "../sessions/link.ts";
import { UserClient } from "../sessions/user-client.ts";
import type { SimCall } from "../types.ts";
import { tenantId } from "./money.ts";
import { prefixOf } from "./prompts.ts";
import type { CallPlan, Scenario, SessionPlan } from "./scenario.ts";

/** What a call frame stands for, without its times: those are of its arrival. */
type Prepared = { readonly sim: Omit<SimCall, "call">; readonly call: Omit<SimCall["call"], "arrived" | "deadline"> };

export class ScenarioClients {
  readonly sessions: EdgeSession[] = [];
  readonly clients: UserClient[] = [];
  readonly #prepared = new Map<CallId, Prepared>();
  readonly #starts: Micros[] = [];

  constructor(
    scenario: Scenario,
    parts: {
      readonly clock: LinkClock;
      readonly door: GatewayDoor;
      readonly tell: (fact: SessionFact) => void;
      readonly stopped: () => boolean;
      readonly salted: boolean;
      readonly cursor_before_store: boolean;
    },
  ) {
    const { clock, door, tell, stopped, cursor_before_store, salted } = parts;
    for (const plan of scenario.sessions) {
      const times = { link_delay: scenario.cluster.link_delay, store_delay: scenario.store_delay, reconnect: plan.reconnect };
      const steps = this.#stepsOf(plan, scenario.cluster.pools[0]?.model ?? "", salted);
      const session = new EdgeSession(asId<"session">(plan.name), steps, { clock, door, times, tell, stopped, cursor_before_store });
      this.sessions.push(session);
      this.clients.push(new UserClient(session, clock, { delay: plan.client_delay, reconnect: plan.reconnect }, tell));
      this.#starts.push(plan.starts);
    }
  }

  get calls(): number {
    return this.#prepared.size;
  }

  start(): void {
    for (const [n, session] of this.sessions.entries()) {
      this.clients[n]?.connect();
      session.start(this.#starts[n] ?? (0 as Micros));
    }
  }

  simCall(call_id: CallId, deadline_ms: number, now: Micros): SimCall {
    const prepared = this.#prepared.get(call_id);
    if (prepared === undefined) throw new Error(`no session makes call ${call_id}`);
    const deadline = (now + deadline_ms * 1_000) as Micros;
    return { ...prepared.sim, call: { ...prepared.call, arrived: now, deadline } };
  }

  #stepsOf(plan: SessionPlan, model: string, salted: boolean): SessionStep[] {
    let turn = 0;
    return plan.calls.map((call, index): SessionStep => {
      if (call.turn) turn += 1;
      const program = asId<"program">(`${plan.name}/${turn}`);
      const id = callId(program, String(index));
      this.#prepared.set(id, this.#prepare(plan, call, { id, program, model, salted }));
      const { pause, deadline, max_tokens, cancel_after, resend_after } = call;
      return { call: id, program, turn, pause, deadline, max_tokens, model, cancel_after, resend_after };
    });
  }

  #prepare(
    plan: SessionPlan,
    call: CallPlan,
    named: { readonly id: CallId; readonly program: SimCall["call"]["program"]; readonly model: string; readonly salted: boolean },
  ): Prepared {
    const { prompt_tokens, max_tokens, output_tokens, splittable } = call;
    return {
      sim: { output_tokens },
      call: {
        call_id: named.id,
        tenant: tenantId(plan.tenant),
        program: named.program,
        agent: null,
        model: named.model,
        prompt_tokens,
        max_tokens,
        prefix: prefixOf(plan.tenant, plan.name, call, named.salted),
        splittable,
      },
    };
  }
}
