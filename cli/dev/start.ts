/**
 * `npm start`: the whole product on one machine, in the order of its dependencies (Postgres, gateway with its node agent and
 * instances, edge, example), and its end in the opposite order.
 *
 * Life: claiming (start.lock: one product a folder; what did a killed start leave?) → bringing up → ready ⇄ a child restarting →
 * stopping → gone. A fault while bringing up stops what is up and ends with one line that says what to do. The node agent and
 * its engines belong to the gateway, which releases them when it is told to stop; if it cannot, their lease ends them.
 */
import { StateFolder, type RunFile } from "./state.ts";
import { choosePort, samePort } from "./ports.ts";
import { stopGroup, type Child } from "./child.ts";
import { endAll } from "./end-all.ts";
import { groupIsLeft, isAlive } from "./process.ts";
import { takeLock, thisProcess, type Taken } from "./lock.ts";
import { keepDatabase } from "./database.ts";
import { startPostgres } from "./postgres.ts";
import { gatewayChild } from "./gateway.ts";
import { edgeChild } from "./edge.ts";
import { stopAgents } from "./agents.ts";
import { KEY_FILE, prepareDatabase } from "./seed.ts";

export type StartOptions = {
  readonly root: string;
  readonly state: string;
  readonly edge_port?: number;
  readonly gateway_port?: number;
  readonly postgres_port?: number;
  readonly database_url?: string;
  readonly speed: number;
  readonly restart: boolean;
  readonly say: (line: string) => void;
};

export class StartFault extends Error {}

export type Running = {
  readonly edge_url: string;
  readonly gateway_url: string;
  readonly database_url: string;
  readonly key: string;
  readonly key_file: string;
  mark_ready(): void;
  stop(): Promise<void>;
};

const EDGE_PORT = 8787;
const GATEWAY_PORT = 8790;
const STOP_EDGE_MS = 5_000;
const STOP_GATEWAY_MS = 15_000;

export async function start(options: StartOptions): Promise<Running> {
  const state = new StateFolder(options.state);
  const unlock = claim(state);
  let file: RunFile = {
    supervisor: thisProcess(),
    key_file: state.file(KEY_FILE),
    started_at: new Date().toISOString(),
    ready: false,
  };
  const note = (change: Partial<RunFile>): void => {
    file = { ...file, ...change };
    try {
      state.writeRun(file);
    } catch (error) {
      // A full disk must not stop what runs: only those who look for it in run.json do not find it.
      options.say(`run.json cannot be written: ${errorText(error)}`);
    }
  };

  const stops: (() => Promise<void>)[] = [];
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= endAll([...stops.toReversed(), () => state.removeRun(), unlock]);
    return stopping;
  };

  try {
    await clearAway(state, options.say);
    // Named ports are checked before anything is started. A Postgres that is left may have its port, and is adopted with it.
    const named = [
      ["--edge-port", options.edge_port],
      ["--gateway-port", options.gateway_port],
      ["--postgres-port", options.postgres_port],
    ] as const;
    const same = samePort(named);
    if (same !== null) throw new StartFault(same);
    for (const [flag, port] of named.slice(0, 2)) await portOr(port, 0, flag);
    state.writeRun(file);
    let database_url: string;
    if (options.database_url !== undefined) database_url = (await startPostgres({ dir: "", database_url: options.database_url })).url;
    else {
      options.say("starting Postgres …");
      const database = await keepDatabase({
        dir: state.file("postgres"),
        port: options.postgres_port || undefined,
        restart: options.restart,
        on_up: (postgres) => note({ postgres: { url: postgres.url, ...(postgres.pid === null ? {} : { pid: postgres.pid }) } }),
        on_death: options.say,
      });
      stops.push(() => database.stop());
      database_url = database.url;
    }
    const key = await prepareDatabase({ database_url, state });

    options.say("starting the gateway, a node agent and four simulated A100 instances …");
    const cell_secret = state.secret("cell-secret");
    const gateway_port = await onPort(options.gateway_port, GATEWAY_PORT, "--gateway-port", stops, (port) => {
      const gateway = gatewayChild({
        root: options.root,
        state,
        port,
        database_url,
        cell_secret,
        speed: options.speed,
        restart: options.restart,
        on_spawn: (process, url) => note({ gateway: { url, process } }),
        on_death: options.say,
      });
      const end = async () => {
        await endAll([() => gateway.stop(STOP_GATEWAY_MS), () => stopAgents(state.file("gateway"))]);
      };
      return { child: gateway, end };
    });
    const gateway_url = `http://127.0.0.1:${gateway_port}`;

    options.say("starting the edge …");
    const edge_port = await onPort(options.edge_port, EDGE_PORT, "--edge-port", stops, (port) => {
      const edge = edgeChild({
        root: options.root,
        state,
        port,
        database_url,
        gateway_url,
        cell_secret,
        restart: options.restart,
        on_spawn: (process, url) => note({ edge: { url, process } }),
        on_death: options.say,
      });
      return { child: edge, end: () => edge.stop(STOP_EDGE_MS) };
    });
    const edge_url = `http://127.0.0.1:${edge_port}`;
    return { edge_url, gateway_url, database_url, key, key_file: file.key_file, mark_ready: () => note({ ready: true }), stop };
  } catch (error) {
    await stop().catch((fault: unknown) => options.say(errorText(fault)));
    throw error instanceof StartFault ? error : new StartFault(faultText(errorText(error)));
  }
}

const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** A full disk shows in many places and words; what to do is the same. */
function faultText(text: string): string {
  if (!/ENOSPC|EDQUOT|no space left|disk quota/i.test(text)) return text;
  return `the disk is full (${text.replace(/\.$/, "")}); make room, or name a folder on another disk with --state DIR.`;
}

const PORT_TRIES_MAX = 3;

/** Starts a child on the port named, else on its usual one or any; one that another took in the meantime is given up for a free one. */
async function onPort(
  named: number | undefined,
  usual: number,
  flag: string,
  stops: (() => Promise<void>)[],
  make: (port: number) => { readonly child: Child; readonly end: () => Promise<void> },
): Promise<number> {
  for (let tried = 1; ; tried++) {
    const port = await portOr(tried === 1 ? named : 0, usual, flag);
    const { child, end } = make(port);
    stops.push(end);
    try {
      await child.start();
      return port;
    } catch (error) {
      const taken = error instanceof Error && /EADDRINUSE|in use|cannot listen/i.test(error.message);
      if (named || !taken || tried === PORT_TRIES_MAX) throw error;
      stops.pop();
      await end();
    }
  }
}

async function portOr(named: number | undefined, usual: number, flag: string): Promise<number> {
  const choice = await choosePort(named, usual, flag);
  if (!choice.ok) throw new StartFault(choice.message);
  return choice.port;
}

/** One product a folder, from its start's first step to its stop's last; answers with how to let go. */
function claim(state: StateFolder): () => void {
  let lock: Taken;
  try {
    state.create();
    lock = takeLock(state.file("start.lock"));
  } catch (error) {
    const text = errorText(error);
    const full = faultText(text);
    throw new StartFault(full === text ? `the state folder ${state.path} cannot be used: ${text}; name another with --state DIR.` : full);
  }
  const run = state.readRun();
  // A product that was started before there was a lock, or whose lock was removed by hand.
  const beside = lock.type === "refused" ? lock.owner : run && isAlive(run.supervisor) ? run.supervisor : null;
  if (lock.type === "taken" && beside === null) return lock.release;
  if (lock.type === "taken") lock.release();
  const where = run?.edge ? ` at ${run.edge.url}` : "";
  throw new StartFault(
    `Millrace already runs from this folder${where} (pid ${beside?.pid ?? 0}); stop it, or start another with --state DIR.`,
  );
}

/** Ends what a killed start left. A node agent is left to the gateway, and Postgres to its start: both are adopted. */
async function clearAway(state: StateFolder, say: (line: string) => void): Promise<void> {
  const before = state.readRun();
  if (!before) return;
  for (const left of [before.edge?.process, before.gateway?.process]) {
    if (!left || !groupIsLeft(left)) continue;
    say(`ending process ${left.pid}, left by a start that was killed …`);
    await stopGroup(left.pid, STOP_GATEWAY_MS);
  }
  state.removeRun();
}
