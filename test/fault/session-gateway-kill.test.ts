/** SIGKILL of the gateway in the middle of a session's turn: the turn ends, once, and the session goes on with the new gateway. */
import { expect, it } from "vitest";
import { createClient, type SessionItem } from "../../sdk/client/index.ts";
import { connection, deployText, running } from "../support/product.ts";

const TELLER = `
import { agent } from "millrace";
export default agent(async (ctx) =>
  (await ctx.ai.chat({ messages: [{ role: "user", content: ctx.input.message }], max_tokens: 2000 })).text);`;

it("ends the turn with an answer or one clear error, and takes the next message", async () => {
  await deployText("long-teller", TELLER);
  const session = await createClient(connection()).connectSession({ function: "long-teller" });
  const seen: SessionItem[] = [];
  const ends = () => seen.filter((item) => item.type === "turn.done" || item.type === "error");
  await session.send("Tell me about mills.");
  let killed = false;
  for await (const item of session) {
    seen.push(item);
    if (item.type === "delta" && !killed) {
      killed = true;
      process.kill(running().gateway.process.pid, "SIGKILL");
    }
    if (ends().length === 1 && (item.type === "turn.done" || item.type === "error")) await session.send("And the next one?");
    if (ends().length === 2) break;
  }
  session.close();
  expect(killed).toBe(true);
  expect(seen.map((item) => (item.type === "truncated" ? 0 : item.seq))).toEqual(seen.map((_, index) => index + 1));
  const [first, second] = ends();
  if (first?.type === "error") expect(first).toMatchObject({ partial: true, error: { code: "gateway_lost" } });
  expect(second?.type).toBe("turn.done");
});
