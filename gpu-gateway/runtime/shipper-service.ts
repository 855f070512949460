/** The thread's side of the shipper: hears messages, ships, and tells what the ledger has. */
import type { MessagePort } from "node:worker_threads";
import type { Ledger, Shipment } from "../ports/ledger.ts";
import { journalReader } from "./journal/reader.ts";
import type { FromShipper, ThreadStart, ToShipper } from "./shipper-messages.ts";
import { createShipper, type Shipper } from "./shipper.ts";

/** Resolves when the thread may end. */
export async function serveShipper(port: MessagePort, { dir, cell, epoch, end }: ThreadStart, ledger: Ledger): Promise<void> {
  const say = (message: FromShipper): void => port.postMessage(message);
  const closed = Promise.withResolvers<void>();
  const shipper = await createShipper({
    dir,
    cell,
    epoch,
    journal: { ...journalReader(dir, cell), end: () => end },
    ledger: telling(ledger, say),
    on_anomaly: (detail) => say({ type: "anomaly", detail }),
    on_superseded: (reason) => say({ type: "superseded", reason }),
  });
  port.on("message", (message: ToShipper) => {
    if (message.type === "release") return shipper.release(message.position, message.watermark);
    if (message.type === "settle") return void settle(shipper, message.ask, say);
    void shipper.close().then(closed.resolve, closed.reject);
  });
  say({ type: "ready" });
  await closed.promise;
  port.close();
}

async function settle(shipper: Shipper, ask: number, say: (message: FromShipper) => void): Promise<void> {
  try {
    say({ type: "settled", ask, outcome: await shipper.settle() });
  } catch (error) {
    say({ type: "broken", ask, reason: error instanceof Error ? error.message : String(error) });
  }
}

function telling(ledger: Ledger, say: (message: FromShipper) => void): Ledger {
  return {
    async ship(shipment) {
      const outcome = await ledger.ship(shipment);
      if (outcome.type === "stored") say({ type: "shipped", watermark: shipment.watermark, gpu_ns: gpuTimeOf(shipment) });
      return outcome;
    },
  };
}

function gpuTimeOf({ usage }: Shipment): [string, number][] {
  const sums = new Map<string, number>();
  for (const { kind, quantity, cost_centre } of usage) {
    if (kind !== "gpu_time" || quantity.startsWith("-")) continue;
    const centre = cost_centre ?? "calls";
    sums.set(centre, (sums.get(centre) ?? 0) + Number(quantity));
  }
  return [...sums];
}
