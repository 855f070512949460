/** One specialist's opinion: called by the swarm, in a run of its own. */
import { agent } from "millrace";
import { SPECIALISTS, type Specialist } from "./specialists.ts";

export default agent<{ specialist: Specialist; question: string }, { specialist: Specialist; opinion: string }>(async (ctx) => {
  const { specialist, question } = ctx.input;
  const persona = SPECIALISTS[specialist];
  if (!persona) throw new Error(`no such specialist: ${specialist}`);
  const answer = await ctx.agent(specialist).ai.chat({
    messages: [
      { role: "system", content: persona },
      { role: "user", content: question },
    ],
    max_tokens: 96,
  });
  return { specialist, opinion: answer.text };
});
