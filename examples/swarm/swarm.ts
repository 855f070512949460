/**
 * Router → specialists in parallel → aggregator. The router chooses which of five specialists to ask; each is a run of the
 * function `swarm-specialist`; the aggregator's tokens stream to the client. Works as a function and in a session.
 */
import { agent } from "millrace";
import { NAMES, type Specialist } from "./specialists.ts";

type Input = { readonly question?: string; readonly message?: string };
type Opinion = { readonly specialist: Specialist; readonly opinion: string };

export default agent<Input, { question: string; asked: Specialist[]; opinions: Opinion[]; answer: string }>(async (ctx) => {
  const question = ctx.input.question ?? ctx.input.message ?? "";
  if (!question) throw new Error("ask something: {question: string}");

  const route = await ctx.agent("router").ai.chat({
    messages: [
      { role: "system", content: "You choose which specialists should answer. Reply with their names, nothing else." },
      { role: "user", content: `${question}\nChoose from: ${NAMES.join(", ")}` },
    ],
    max_tokens: 40,
  });
  const named = NAMES.filter((name) => route.text.includes(name));
  // A router that names nobody has not answered the question: then everybody is asked.
  const asked = named.length > 0 ? named : NAMES;
  await ctx.emit("swarm.routed", { asked });

  const opinions = await ctx.fanout(asked, (specialist, branch) =>
    branch.call<Opinion>("swarm-specialist", { specialist, question }, { agent: specialist }),
  );

  const stream = ctx.agent("aggregator").ai.stream({
    messages: [
      { role: "system", content: "You join the specialists' opinions into one answer." },
      { role: "user", content: `${question}\n\n${opinions.map((one) => `${one.specialist}: ${one.opinion}`).join("\n\n")}` },
    ],
    max_tokens: 160,
  });
  let answer = "";
  for await (const piece of stream) answer += piece.text;
  ctx.log.info(`asked ${asked.join(", ")}`);
  return { question, asked, opinions, answer };
});
