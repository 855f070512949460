/** Records until the disk takes no more, then says what it met. Run under `ulimit -f`. */
import { setImmediate as turn } from "node:timers/promises";
import { micros } from "../../schema/core/time.ts";
import { choosePolicies, inFull } from "../policy/catalogue.ts";
import { createScheduler } from "../policy/scheduler.ts";
import { DecisionRecorder } from "./decisions.ts";

const options = { scope: "test/1", targets: [] };
const choice = choosePolicies({}, options);
if (choice.type === "faults") throw new Error(choice.faults.join());
const told: string[] = [];
const file = process.argv[2] ?? "";
const recorder = await DecisionRecorder.open({
  file,
  policies: inFull({}, options),
  log: (_, fields) => void told.push(String(fields?.["error"])),
});
const scheduler = recorder.around(createScheduler(choice.config));
for (let at = 0; at < 20_000 && recorder.state().recording === "on"; at++) {
  scheduler.handle({ type: "timer" }, micros(at));
  await turn();
}
const served = scheduler.handle({ type: "timer" }, micros(10_000_000)).length;
await recorder.close("stopped");
process.stdout.write(JSON.stringify({ recording: recorder.state().recording, told, served }));
