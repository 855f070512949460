/**
 * What a fault hits besides the world: the gateway with its books, the sessions, their users' clients. A link is cut, a session evicted while an
 * answer is being told, for that is the moment that can go wrong: the fault waits for one, not for long, and then takes what there is.
 */
import type { Micros } from "../../../schema/core/time.ts";
import type { FaultTargets } from "../faults/schedule.ts";
import type { EdgeSession } from "../sessions/edge-session.ts";
import type { LinkClock } from "../sessions/link.ts";
import type { UserClient } from "../sessions/user-client.ts";
import type { SimMeter } from "./meter.ts";

const LOOKS_MAX = 200;
const LOOK_EVERY = 50_000;

export type TargetParts = {
  readonly clock: LinkClock;
  readonly meter: SimMeter;
  readonly sessions: readonly EdgeSession[];
  readonly clients: readonly UserClient[];
  readonly gatewayRestart: (down: Micros) => boolean;
};

export function hits({ clock, meter, sessions, clients, gatewayRestart }: TargetParts): FaultTargets {
  function whenListening(which: number, hit: (session: EdgeSession) => boolean, fired: () => void, looks = 0): void {
    const listening = sessions.filter((session) => session.listening);
    const chosen = nth(looks < LOOKS_MAX ? listening : sessions, which);
    if (chosen !== undefined) {
      if (hit(chosen)) fired();
      return;
    }
    clock.at((clock.now() + LOOK_EVERY) as Micros, () => whenListening(which, hit, fired, looks + 1));
  }
  return {
    gatewayRestart,
    clockStep: (by) => {
      meter.stepClock(by);
      return true;
    },
    ledgerOutage: (until, stored) => {
      meter.ledgerOut(until, stored);
      return true;
    },
    linkCut: (which, fired) => whenListening(which, (session) => session.cutLink(), fired),
    sessionEvicted: (which, fired) => whenListening(which, (session) => session.evict(), fired),
    clientCut: (which) => nth(clients, which)?.cut() ?? false,
  };
}

const nth = <T>(list: readonly T[], which: number): T | undefined => (list.length === 0 ? undefined : list[which % list.length]);
