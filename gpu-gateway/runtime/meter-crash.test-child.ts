/** A gateway's metering under load, until it is killed: calls, legs, settlements. Prints `d <call>` once a call's acceptance is durable. */
import { writeSync } from "node:fs";
import { join } from "node:path";
import { nanos } from "../../schema/core/time.ts";
import { FileLedger } from "./file-ledger.test-support.ts";
import { createMeter } from "./meter.ts";
import { accept, announce, CELL, NODE, serve } from "./meter.test-support.ts";
import { createShipper } from "./shipper.ts";

const [dir = "", round = "", provisioned_at = ""] = process.argv.slice(2);
const meter = await createMeter({
  journal_dir: join(dir, "journal"),
  cell: CELL,
  epoch: Number(round),
  boot_id: `boot_${round}`,
  startShipper: (parts) => createShipper({ ...parts, ledger: new FileLedger(join(dir, "ledger.ndjson")) }),
  renew: () => Promise.resolve(new Map([[NODE, meter.now()]])),
  on_failure: (reason) => process.exit(reason === "" ? 3 : 4),
  on_anomaly: (detail) => void writeSync(1, `a ${detail}\n`),
  segment_bytes_max: 40_000,
});
announce(meter, nanos(BigInt(provisioned_at)));
for (const call of meter.open_calls) {
  meter.record({ type: "call_ended", call, outcome: "failed", code: "gateway_lost", tokens: { prompt: 0, cached: 0, completion: 0 } });
}
for (let i = 0; ; i++) {
  const call = `call_${round}_${i}`;
  accept(meter, call);
  await meter.durable();
  writeSync(1, `d ${call}\n`);
  if (i % 3 > 0) serve(meter, call);
  if (i % 11 === 10) void meter.settle();
}
