/**
 * The shipper's thread with a ledger in a file. While a file `<ledger>.die` is there, it ends after it stored and before it says so; while a
 * file `<ledger>.superseded` is, another has the cell; when it is told of a release while a file `<ledger>.end` is, it ends.
 */
import { existsSync, rmSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { FileLedger } from "./file-ledger.test-support.ts";
import type { ThreadStart, ToShipper } from "./shipper-messages.ts";
import { serveShipper } from "./shipper-service.ts";

if (parentPort === null) throw new Error("a thread");
const start = workerData as ThreadStart;
const ledger = new FileLedger(start.ledger);
parentPort.on("message", ({ type }: ToShipper) => {
  if (type === "release" && existsSync(`${start.ledger}.end`)) end("end");
});
function end(why: string): never {
  rmSync(`${start.ledger}.${why}`);
  process.exit(1);
}
await serveShipper(parentPort, start, {
  async ship(shipment) {
    ledger.fault = existsSync(`${start.ledger}.superseded`) ? "superseded" : null;
    const outcome = await ledger.ship(shipment);
    if (existsSync(`${start.ledger}.die`)) end("die");
    return outcome;
  },
});
