/**
 * A ledger in a file, for tests of what ships to it: one line a shipment, stored by (tenant, source, id), the same id with
 * another body is a conflict. A line that a kill cut short was not stored. (The real one has tests of its own on Postgres.)
 */
import { appendFileSync, existsSync, readFileSync, truncateSync } from "node:fs";
import type { Ledger, Shipment, ShipOutcome } from "../ports/ledger.ts";
import type { Provision } from "../ports/provider.ts";
import type { UsageEvent } from "../../schema/core/wire/usage.ts";

export type LedgerFault = "down" | "stored_but_not_answered" | "superseded" | null;

export class FileLedger implements Ledger {
  readonly usage = new Map<string, UsageEvent>();
  readonly provisions = new Map<string, Provision>();
  readonly calls = new Map<string, unknown>();
  readonly shipments: { readonly rows: number; readonly outcome: ShipOutcome["type"] }[] = [];
  watermark = 0n;
  repeated = 0;
  conflicts = 0;
  fault: LedgerFault = null;
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
    if (!existsSync(path)) return;
    const text = readFileSync(path, "utf8");
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    if (whole.length < text.length) truncateSync(path, Buffer.byteLength(whole));
    for (const line of whole.split("\n").slice(0, -1)) this.#store(decode(line));
  }

  ship(shipment: Shipment): Promise<ShipOutcome> {
    const outcome = this.#ship(shipment);
    this.shipments.push({ rows: shipment.usage.length + shipment.calls.length, outcome: outcome.type });
    return Promise.resolve(outcome);
  }

  #ship(shipment: Shipment): ShipOutcome {
    if (this.fault === "down") return { type: "unavailable", reason: "down" };
    if (this.fault === "superseded") return { type: "superseded", epoch: shipment.epoch + 1 };
    appendFileSync(this.#path, encode(shipment));
    const stored = this.#store(shipment);
    if (this.fault === "stored_but_not_answered") return { type: "unavailable", reason: "connection lost at commit" };
    return { type: "stored", ...stored };
  }

  #store(shipment: Shipment) {
    let [inserted, repeated, conflicts] = [0, 0, 0];
    for (const event of shipment.usage) {
      const key = JSON.stringify([event.tenant, event.source, event.id]);
      const stored = this.usage.get(key);
      if (!stored) {
        this.usage.set(key, event);
        inserted += 1;
      } else if (JSON.stringify(stored) === JSON.stringify(event)) repeated += 1;
      else conflicts += 1;
    }
    for (const call of shipment.calls) this.calls.set(JSON.stringify([call.call_id, call.accepted_at.toString()]), call);
    for (const provision of shipment.provisions) {
      if (!this.provisions.get(provision.provision_id)?.released_at) this.provisions.set(provision.provision_id, provision);
    }
    if (shipment.watermark > this.watermark) this.watermark = shipment.watermark;
    this.repeated += repeated;
    this.conflicts += conflicts;
    return { inserted, repeated, conflicts };
  }
}

const encode = (shipment: Shipment): string =>
  `${JSON.stringify(shipment, (_, value: unknown) => (typeof value === "bigint" ? { bigint: value.toString() } : value))}\n`;
const decode = (line: string): Shipment =>
  JSON.parse(line, (_, value: unknown) =>
    typeof value === "object" && value !== null && "bigint" in value ? BigInt(value.bigint as string) : value,
  ) as Shipment;
