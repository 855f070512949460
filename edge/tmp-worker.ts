export { AgentSession } from "./objects/agent-session.ts";
export { Run } from "./objects/run.ts";
export { Memory } from "./objects/memory.ts";
export { AI, MemoryCapability, CallCapability, JournalCapability } from "./runtime/capabilities.ts";
export { Egress } from "./runtime/egress.ts";
export default { fetch: () => new Response("x") };
