/** schema/db writes out the ledger port's shapes because it may not import the gateway: the compiler holds the two together here. */
import { expectTypeOf, test } from "vitest";
import type { Ledger, ShipOutcome, Shipment } from "../../gpu-gateway/ports/ledger.ts";
import type { PostgresLedger, ShipOutcome as StoredOutcome, Shipment as StoredShipment } from "../../schema/db/ledger.ts";

test("the ledger in Postgres is a Ledger", () => {
  expectTypeOf<PostgresLedger>().toExtend<Ledger>();
  expectTypeOf<Shipment>().toExtend<StoredShipment>();
  expectTypeOf<StoredOutcome>().toEqualTypeOf<ShipOutcome>();
});
