/**
 * One gateway, put together and taken apart again.
 *
 * Up:   place (folder, owner) → cell lease → journal, which ends what an earlier boot left open → doors → nodes → adoption.
 * Down: no new calls → those that run end, or are cancelled after drain_ms → doors → nodes released → last cut, shipped → lease.
 * Fenced or without a journal: every client is told, what was journalled is made durable, and the process ends; its successor
 * replays. There is no way back inside the process.
 */
import { randomUUID } from "node:crypto";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import postgres from "postgres";
import { acquireCell } from "../schema/db/queries/cells/acquire-cell.ts";
import { releaseCell } from "../schema/db/queries/cells/release-cell.ts";
import { renewCell } from "../schema/db/queries/cells/renew-cell.ts";
import { unavailableReason } from "../schema/db/unavailable.ts";
import { policyParameters, type ResolvedConfig } from "./config.ts";
import { createVllmEngine } from "./engines/vllm/engine.ts";
import { choosePolicies, inFull } from "./policy/catalogue.ts";
import { createScheduler } from "./policy/scheduler.ts";
import type { Provider, ProviderEvent } from "./ports/provider.ts";
import { Fenced } from "./ports/provider.ts";
import { createLocalProvider } from "./providers/local/local.ts";
import { tenantSalts } from "./runtime/cache-salt.ts";
import { monotonicClock } from "./runtime/clock.ts";
import { DecisionRecorder } from "./runtime/decisions.ts";
import { LeaseKeeper } from "./runtime/lease.ts";
import { JournalFailed } from "./runtime/journal/journal.ts";
import { CorruptJournal } from "./runtime/journal/segments.ts";
import { LEASE_SKEW_MS } from "./runtime/limits.ts";
import { ALIVE_MS, createMeter, type Meter, type MeterOptions } from "./runtime/meter.ts";
import { takePlace, type Place } from "./place.ts";
import { readStanding } from "./standing.ts";
import { ProvisionBook } from "./runtime/provisions.ts";
import { Runtime } from "./runtime/runtime.ts";
import { startShipperThread } from "./runtime/shipper-thread.ts";
import { Authenticator } from "./server/auth.ts";
import type { Doors } from "./server/doors.ts";
import { postgresKeyStore } from "./server/key-store.ts";
import { LinkServer } from "./server/link/server.ts";
import { Metrics } from "./server/metrics.ts";
import { watchRevocations } from "./server/revocation.ts";
import { createServer } from "./server/server.ts";

const DATABASE_CONNECTIONS_MAX = 8; // further queries wait for a connection
const DATABASE_CONNECT_S = 5;
const DATABASE_END_S = 2;
const CANCEL_WAIT_MS = 3_000; // on the way down: from cancelling the last calls to closing their connections
const IDLE_LOOK_MS = 20;
const FENCED_FLUSH_MS = 500; // for the last words to clients to leave the process

export type Log = (line: string, fields?: Readonly<Record<string, unknown>>) => void;

/** Something that a person can put right: said in one line. */
export class StartFault extends Error {}

export type Gateway = {
  readonly url: string;
  /** Resolves with why, when this gateway may command no more: the process should end. */
  readonly ended: Promise<string>;
  stop(options: { readonly release: boolean; readonly drain_ms: number }): Promise<void>;
};

export async function startGateway(config: ResolvedConfig, log: Log): Promise<Gateway> {
  const taken = takePlace(config.state_dir);
  if (taken.type === "refused") throw new StartFault(taken.reason);
  const { place } = taken;
  const sql = postgres(config.database_url, {
    max: DATABASE_CONNECTIONS_MAX,
    connect_timeout: DATABASE_CONNECT_S,
    onnotice: () => undefined,
    connection: { application_name: "millrace-gateway" },
  });
  const undo: (() => unknown)[] = [() => place.leave(), () => sql.end({ timeout: DATABASE_END_S })];
  try {
    return await assemble(config, log, place, sql, undo);
  } catch (error) {
    for (const step of undo.toReversed())
      await Promise.resolve()
        .then(step)
        .catch(() => undefined);
    throw error;
  }
}

async function assemble(config: ResolvedConfig, log: Log, place: Place, sql: postgres.Sql, undo: (() => unknown)[]): Promise<Gateway> {
  const { cell, lease_ms } = config;
  const acquired_ms = performance.now();
  const lease = await acquire(config, sql, place.owner);
  const held = { cell, owner: place.owner, epoch: lease.epoch };
  undo.push(() => releaseCell(sql, held));
  const decisions = await recorderOf(config, lease.epoch, log);
  undo.push(() => decisions?.close("stopped"));

  const ended = Promise.withResolvers<string>();
  const metrics = new Metrics(cell);
  const clock = monotonicClock();
  const scheduler = createScheduler(policiesOf(config, lease.epoch));
  /** The lease as it stands on the clock: asked before every command. */
  const holds = () => keeper === null || keeper.holds();
  const provider: Provider = createLocalProvider({
    ...config.provider,
    state_dir: path.join(config.state_dir, "nodes", config.provider.node_id),
  });
  let runtime: Runtime | null = null;
  let keeper: LeaseKeeper | null = null;

  const meter = await openMeter({
    journal_dir: path.join(config.state_dir, "journal"),
    cell,
    epoch: lease.epoch,
    boot_id: randomUUID(),
    standing: await asked(() => readStanding(sql, cell)),
    startShipper: (parts) => startShipperThread({ ...parts, ledger: config.database_url, on_shipped: (rows) => metrics.shipped(rows) }),
    usage_cut_ms: config.usage_cut_ms,
    renew: async () => new Map((await provider.renew()).map(({ node_id, confirmed_at }) => [node_id, confirmed_at])),
    on_failure: (reason) => fence(`the journal cannot be written: ${reason}`),
    stall_ms_max: Math.max(lease_ms - LEASE_SKEW_MS, 2 * ALIVE_MS), // a shorter silence is not told from none
    lease_over: () => keeper?.over === true,
    on_stall: (reason) => fence(reason),
    on_superseded: (reason) => fence(reason),
    on_anomaly: (detail) => {
      metrics.anomaly();
      log("meter anomaly", { detail });
    },
  });
  undo.push(() => meter.close());
  // An earlier boot accepted them and did not live to answer: their clients were cut off, and the books say so (I2).
  for (const call of meter.open_calls)
    meter.record({ type: "call_ended", call, outcome: "failed", code: "gateway_lost", tokens: meter.tokens_sent(call) });

  const provisions = new ProvisionBook(meter);
  runtime = new Runtime({
    scheduler: decisions?.around(scheduler) ?? scheduler,
    meter,
    clock,
    observer: metrics,
    max_tokens_default: config.limits.max_tokens_default,
    cacheSalt: tenantSalts(config.cell_secret),
    prompt_prefixes: config.policies.cache === "prefix-index",
    provisioned: (provision) => provisions.state(provision),
    holds,
    log,
    fleet: {
      provider,
      pools: config.pools.map(({ model, role, engine, gpus }) => ({ model, role, engine, gpus_per_group: gpus })),
      prefill_tokens_max: config.limits.prefill_tokens_max,
      engine: (group, url) => createVllmEngine({ url, ...config.adapters[group.engine] }),
    },
  });
  const commanded = runtime;
  undo.push(() => commanded.close());

  function fence(reason: string): void {
    keeper?.stop();
    runtime?.fence(reason);
    ended.resolve(reason);
  }
  keeper = new LeaseKeeper({
    store: { renew: async () => (await renewCell(sql, { ...held, lease_ms })).type },
    lease_ms,
    acquired_ms,
    renewNodes: () => provider.renew(),
    on_fenced: fence,
    log,
  });
  undo.push(() => keeper?.stop());

  const keys = postgresKeyStore(sql);
  const auth = new Authenticator(keys, config.cell_secret);
  const doors: Doors = {
    cell,
    epoch: lease.epoch,
    started_s: Math.floor(Date.now() / 1_000),
    deadline_ms_default: config.limits.deadline_ms_default,
    runtime: commanded,
    meter,
    auth,
    metrics,
    snapshot: () => scheduler.snapshot(),
    decisions: () => decisions?.state() ?? null,
  };
  const links = new LinkServer(doors);
  metrics.watch(doors.snapshot, () => links.open);
  const server = createServer(doors, links);
  const url = await listen(server, config.listen);
  undo.push(() => closeServer(server));
  const revocations = watchRevocations(keys, auth, commanded, links, log);
  undo.push(() => revocations.stop());

  /** Set while nodes are being released: when they were gone is recorded before what ended on them, so that nothing is metered past it. */
  let held_back: ProviderEvent[] | null = null;
  const onEvent = (event: ProviderEvent) => (held_back === null ? commanded.onProviderEvent(event) : void held_back.push(event));
  const groups = await provider.open({ cell, epoch: lease.epoch, lease_ms, holds }, onEvent);
  undo.push(() => provider.close());
  log("adopting", { epoch: lease.epoch, groups: groups.map((group) => group.group_id) });
  await commanded.start(groups);

  return {
    url,
    ended: ended.promise.then(async (reason) => {
      revocations.stop();
      links.endAll();
      await Promise.race([meter.durable().catch(() => undefined), pause(FENCED_FLUSH_MS)]);
      await Promise.all([pause(FENCED_FLUSH_MS), decisions?.close("fenced")]);
      place.leave();
      return reason;
    }),
    async stop({ release, drain_ms }) {
      commanded.drain();
      await idle(commanded, drain_ms);
      commanded.cancelWhere(() => true, "gateway_stopping");
      await idle(commanded, CANCEL_WAIT_MS);
      revocations.stop();
      links.endAll();
      await closeServer(server);
      if (release) {
        held_back = [];
        await releaseNodes(provider, provisions, log);
        for (const event of held_back.splice(0)) commanded.onProviderEvent(event);
        held_back = null;
      }
      commanded.close();
      await decisions?.close("stopped");
      await provider.close();
      keeper?.stop();
      keeper = null;
      await meter.close();
      await releaseCell(sql, held).catch((error: unknown) => log("cell lease not released", { error: String(error) }));
      await sql.end({ timeout: DATABASE_END_S });
      place.leave();
    },
  };
}

function chosenPolicies({ policies, cell, pools }: ResolvedConfig, epoch: number) {
  const { parameters, ...names } = policies;
  const options = {
    scope: `${cell}/${epoch}`,
    targets: pools.map(({ model, role, groups }) => ({ model, role, groups })),
    parameters: policyParameters(parameters),
  };
  return { names, options };
}

function policiesOf(config: ResolvedConfig, epoch: number) {
  const { names, options } = chosenPolicies(config, epoch);
  const choice = choosePolicies(names, options);
  if (choice.type === "faults") throw new StartFault(`policies: ${choice.faults.join("; ")}`);
  return choice.config;
}

async function recorderOf(config: ResolvedConfig, epoch: number, log: Log): Promise<DecisionRecorder | null> {
  const { record_decisions: file } = config;
  if (file === undefined) return null;
  const { names, options } = chosenPolicies(config, epoch);
  try {
    return await DecisionRecorder.open({ file, policies: inFull(names, options), log });
  } catch (error) {
    throw new StartFault(
      `record_decisions: ${error instanceof Error ? error.message : String(error)}; name a file in a folder that is there`,
    );
  }
}

async function acquire(config: ResolvedConfig, sql: postgres.Sql, owner: string): Promise<{ readonly epoch: number }> {
  const { cell, lease_ms } = config;
  const outcome = await asked(() => acquireCell(sql, { cell, owner, lease_ms }));
  if (outcome.type === "acquired") return outcome;
  throw new StartFault(
    `cell ${cell} is held by gateway ${outcome.owner} until ${outcome.expires_at}; stop it, or wait until its lease ends`,
  );
}

/** A question to the database without whose answer there is no start. */
async function asked<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (error) {
    const reason = unavailableReason(error);
    if (reason !== null) throw new StartFault(`the database cannot be reached: ${reason}; check DATABASE_URL and that Postgres runs`);
    throw new StartFault(`the database refused: ${error instanceof Error ? error.message : String(error)}; is it migrated?`);
  }
}

/** What keeps the journal from being read or written is for a person to put right, and said so. */
async function openMeter(options: MeterOptions): Promise<Meter> {
  const { journal_dir } = options;
  try {
    return await createMeter(options);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof CorruptJournal)
      throw new StartFault(
        `${reason}: put the file back from a copy, or move ${journal_dir} away to begin anew (what it holds and was not shipped is then not metered)`,
      );
    if (error instanceof JournalFailed || (error instanceof Error && "syscall" in error))
      throw new StartFault(`the journal cannot be written: ${reason}; free space in ${journal_dir}, or make it writable`);
    throw error;
  }
}

async function releaseNodes(provider: Provider, provisions: ProvisionBook, log: Log): Promise<void> {
  try {
    for (const provision of await provider.release()) provisions.state(provision);
  } catch (error) {
    if (error instanceof Fenced) return log("nodes are another's", { error: error.message });
    // Their lease ends them; what they say then is recorded by the next gateway.
    log("nodes not released", { error: String(error) });
  }
}

async function idle(runtime: Runtime, within_ms: number): Promise<void> {
  const until_ms = performance.now() + within_ms;
  while (runtime.calls.active > 0 && performance.now() < until_ms) await pause(IDLE_LOOK_MS);
}

function listen(server: Server, { host, port }: ResolvedConfig["listen"]): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "the port is in use; choose another in listen.port" : error.message;
      reject(new StartFault(`cannot listen on ${host}:${port}: ${why}`));
    });
    server.listen(port, host, () => {
      const address = server.address() as AddressInfo;
      resolve(`http://${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`);
    });
  });
}

function closeServer(server: Server): Promise<void> {
  if (!server.listening) return Promise.resolve();
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), FENCED_FLUSH_MS).unref();
  });
}
