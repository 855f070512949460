/** One line of LoadOptions in, one line of LoadResult out, for ever: so that connections' warm-up and JIT are the load's own. */
import { createInterface } from "node:readline";
import { load, type LoadOptions } from "./load.ts";

for await (const line of createInterface({ input: process.stdin })) {
  const result = await load(JSON.parse(line) as LoadOptions);
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
