/** What the platform runs: the HTTP app, the objects, and the entry points that guests are given. */
import { app } from "./app.ts";

export { AgentSession } from "./objects/agent-session.ts";
export { KeySockets } from "./objects/key-sockets.ts";
export { Memory } from "./objects/memory.ts";
export { Run } from "./objects/run.ts";
export { AI, CallCapability, JournalCapability, MemoryCapability } from "./runtime/capabilities.ts";
export { Egress } from "./runtime/egress.ts";

export default { fetch: app.fetch };
