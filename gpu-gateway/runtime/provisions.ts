/** Which stretches of a node's GPUs the journal has heard of: each beginning and each end is recorded once a boot. */
import type { Provision } from "../ports/provider.ts";
import type { Meter } from "./meter.ts";
import { PROVISIONS_KNOWN_MAX } from "./limits.ts";

export class ProvisionBook {
  readonly #meter: Pick<Meter, "record">;
  readonly #known = new Map<string, "open" | "closed">();

  constructor(meter: Pick<Meter, "record">) {
    this.#meter = meter;
  }

  state(provision: Provision): void {
    const { provision_id, node_id: node, gpus, provisioned_at, released_at } = provision;
    const known = this.#known.get(provision_id);
    if (known === undefined) this.#meter.record({ type: "node_provisioned", node, gpus, at: provisioned_at, provision_id });
    if (released_at !== null && known !== "closed") this.#meter.record({ type: "node_released", node, at: released_at, provision_id });
    this.#known.set(provision_id, released_at === null ? "open" : "closed");
    for (const [oldest, was] of this.#known) {
      if (this.#known.size <= PROVISIONS_KNOWN_MAX) return;
      if (was === "closed") this.#known.delete(oldest);
    }
  }
}
