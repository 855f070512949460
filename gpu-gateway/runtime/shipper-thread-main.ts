/** The shipper's thread, with the ledger in Postgres: `ledger` of its start is the database's URL. Started by shipper-thread.ts. */
import { parentPort, workerData } from "node:worker_threads";
import postgres from "postgres";
import { createPostgresLedger } from "../../schema/db/ledger.ts";
import type { ThreadStart } from "./shipper-messages.ts";
import { serveShipper } from "./shipper-service.ts";

const CONNECTIONS_MAX = 1; // shipments go one after the other
const CONNECT_S = 5;
const END_S = 2;

if (parentPort === null) throw new Error("shipper-thread-main.ts is a thread of the gateway");
const start = workerData as ThreadStart;
const sql = postgres(start.ledger, {
  max: CONNECTIONS_MAX,
  connect_timeout: CONNECT_S,
  onnotice: () => undefined,
  connection: { application_name: "millrace-shipper" },
});
await serveShipper(parentPort, start, createPostgresLedger(sql));
await sql.end({ timeout: END_S });
