/** A session over the whole product: its client is killed 200 times in mid-stream, and misses nothing. */
import { expect, it } from "vitest";
import { createClient } from "../../sdk/client/index.ts";
import { connection, deployText } from "../support/product.ts";
import { faultsOf, killRepeatedly } from "../support/session-killer.ts";

const KILLS = 200;
const SEED = 3;
const TELLER = `
import { agent } from "millrace";
export default agent(async (ctx) => {
  const [first, second] = await Promise.all([
    ctx.ai.chat({ messages: [{ role: "user", content: ctx.input.message }], max_tokens: 300 }, { name: "first" }),
    ctx.ai.chat({ messages: [{ role: "user", content: "also: " + ctx.input.message }], max_tokens: 300 }, { name: "second" }),
  ]);
  return first.text + second.text;
});`;

it(`${KILLS} random kills: no gap, no duplicate, and the log says the same`, async () => {
  await deployText("teller", TELLER);
  const { url, key } = connection();
  const { session } = await createClient({ url, key }).createSession({ function: "teller" });
  const report = await killRepeatedly({ url, key, session, kills: KILLS, seed: SEED, message: (n) => `Tell me about water mill ${n}.` });
  expect(faultsOf(report)).toEqual([]);
  const ends = report.log.filter((event) => event.type === "turn.done" || event.type === "error");
  expect(ends.map((event) => event.type)).toEqual(ends.map(() => "turn.done"));
  expect(ends).toHaveLength(report.turns);
  for (const end of ends) {
    if (end.type !== "turn.done") continue;
    const told = (step: string) =>
      report.transcript
        .map((event) => (event.type === "delta" && event.turn === end.turn && event.step === step ? event.text : ""))
        .join("");
    expect(told("first") + told("second")).toBe(end.output);
  }
});
