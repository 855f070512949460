/** The faults that a scenario may plan, as plain data: what happens, when, to whom. Every one heals by itself. */
import type { Micros } from "../../../schema/core/time.ts";

export type Fault = { readonly at: Micros } & (
  | { readonly kind: "instance_death"; readonly which: number }
  | { readonly kind: "instance_slow"; readonly which: number; readonly factor: number; readonly lasts: Micros }
  | { readonly kind: "instance_hangs"; readonly which: number; readonly lasts: Micros }
  | { readonly kind: "partition"; readonly which: number; readonly lasts: Micros }
  | { readonly kind: "transfer_lost"; readonly lasts: Micros }
  | { readonly kind: "transfer_late"; readonly by: Micros; readonly lasts: Micros }
  | { readonly kind: "transfer_duplicated"; readonly after: Micros; readonly lasts: Micros }
  | { readonly kind: "gateway_restart"; readonly down: Micros }
  /** The machine's wall clock is set; it shows when a gateway starts the next time. */
  | { readonly kind: "clock_step"; readonly by: Micros }
  /** `stored`: what is shipped arrives, but the answer does not. */
  | { readonly kind: "ledger_outage"; readonly stored: boolean; readonly lasts: Micros }
  | { readonly kind: "link_cut"; readonly which: number }
  | { readonly kind: "session_evicted"; readonly which: number }
  | { readonly kind: "client_cut"; readonly which: number }
);
export type FaultKind = Fault["kind"];

export const FAULT_KINDS: readonly [FaultKind, ...FaultKind[]] = [
  "instance_death",
  "instance_slow",
  "instance_hangs",
  "partition",
  "transfer_lost",
  "transfer_late",
  "transfer_duplicated",
  "gateway_restart",
  "clock_step",
  "ledger_outage",
  "link_cut",
  "session_evicted",
  "client_cut",
];
