/** Planted bugs: one for each checker, that it and no other must find. What each one is stands where it is planted. */
import { INVARIANTS, type Invariant } from "../checkers/checker.ts";

export type Plant = Invariant;
export const PLANTS = INVARIANTS;

export const PLANTED: Readonly<Record<Plant, string>> = {
  I1: "now and then a nanosecond is dropped where time is split (the fold)",
  I2: "the end of a call that was cancelled is said twice (the scheduler)",
  I3: "cache salts do not name the tenant (the prompts)",
  I4: "a session moves its cursor before what it stands for is stored (the session)",
  I5: "budgets do not bound what is held (the ledger)",
  I6: "rows are named by their shipment (the shipper)",
  I7: "a group that is being launched does not count (elasticity)",
  I8: "every call is queued, however many wait (admission)",
  I9: "two schedulers share state (ordering)",
  I12: "what one tenant is served is not counted (ordering)",
};
