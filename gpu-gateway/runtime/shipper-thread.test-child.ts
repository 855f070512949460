/** The shipper's thread with a ledger in a file. While a file `<ledger>.die` is there, it ends after it stored and before it says so. */
import { existsSync, rmSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { FileLedger } from "./file-ledger.test-support.ts";
import type { ThreadStart } from "./shipper-messages.ts";
import { serveShipper } from "./shipper-service.ts";

if (parentPort === null) throw new Error("a thread");
const start = workerData as ThreadStart;
const ledger = new FileLedger(start.ledger);
await serveShipper(parentPort, start, {
  async ship(shipment) {
    const outcome = await ledger.ship(shipment);
    const die = `${start.ledger}.die`;
    if (!existsSync(die)) return outcome;
    rmSync(die);
    process.exit(1);
  },
});
