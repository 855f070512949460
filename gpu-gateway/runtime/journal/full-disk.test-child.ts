/** Journals until the disk takes no more, then says what it met. Run under `ulimit -f`. */
import { asId } from "../../../schema/core/ids.ts";
import { nanos } from "../../../schema/core/time.ts";
import { openJournal } from "./journal.ts";

const failures: string[] = [];
const cell = asId<"cell">("cell_journal");
const journal = await openJournal({ dir: process.argv[2] ?? "", cell, on_failure: (reason) => void failures.push(reason) });
let durable = 0;
let rejected = "";
for (let t = 1n; failures.length === 0 && t < 100_000n; t++) {
  journal.append({ type: "alive", t: nanos(t) });
  await journal.durable().then(
    () => void (durable += 1),
    (error: unknown) => void (rejected = String(error)),
  );
}
journal.append({ type: "alive", t: nanos(200_000n) });
const after = await journal.durable().then(
  () => "resolved",
  () => "rejected",
);
await journal.close();
process.stdout.write(JSON.stringify({ durable, failures, rejected, state: journal.state(), after }));
