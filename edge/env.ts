/** What the Worker is given (wrangler.toml). Entry points and objects receive it as an argument; nothing else reads it. */
import type { AgentSession } from "./objects/agent-session.ts";
import type { KeySockets } from "./objects/key-sockets.ts";
import type { Memory } from "./objects/memory.ts";
import type { Run } from "./objects/run.ts";

export type Env = {
  /** Postgres through Hyperdrive without its cache: keys, functions, money. */
  readonly DB: Hyperdrive;
  /** Postgres through Hyperdrive's cache: reads up to 75 s old, for reports of the past. */
  readonly DB_CACHED: Hyperdrive;
  /** Loads user code into isolates of its own. */
  readonly LOADER: WorkerLoader;
  readonly RUNS: DurableObjectNamespace<Run>;
  readonly SESSIONS: DurableObjectNamespace<AgentSession>;
  readonly MEMORY: DurableObjectNamespace<Memory>;
  readonly KEY_SOCKETS: DurableObjectNamespace<KeySockets>;
  /** Base URL of the cell's gateway: `http://127.0.0.1:8700`. */
  readonly GATEWAY_URL: string;
  /** Shared with the gateway; signs the short tokens that travel behind the door. */
  readonly MILLRACE_CELL_SECRET: string;
  /** Origins of pages that may open sessions, besides the edge's own: `https://a.example,https://b.example`. */
  readonly MILLRACE_ORIGINS?: string;
  /** Egress to addresses inside is forbidden unless this is `development` or `test`. */
  readonly MILLRACE_ENV: "production" | "development" | "test";
};
