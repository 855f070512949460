/**
 * The gateway's configuration: one JSON file, resolved once, all faults reported together. Only this file and main.ts read the
 * environment. Every field is explained where it is declared; a field that is not declared is a fault, not ignored.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { CellId, NodeId } from "../schema/core/ids.ts";
import { asId, ID_PATTERN } from "../schema/core/ids.ts";
import { MAX_TOKENS_MAX } from "../schema/core/wire/limits.ts";
import type { EngineCatalogueInput } from "./node-agent/catalogue.ts";
import { DEFAULT_PARAMETERS, parameterFaults, POLICY_NAMES, type PolicyParameters } from "./policy/catalogue.ts";

const id = z.string().regex(ID_PATTERN, "1 to 128 letters, digits and . _ / : -");

/** What the adapter must be told, because the engine does not say. */
const adapting = {
  slots: z.int().min(1).max(65_536).optional().describe("sequences that one instance runs at once (--max-num-seqs)"),
  kv_lease_ms: z.int().min(1_000).max(3_600_000).optional().describe("how long prefilled KV is held for decode (kv_lease_duration)"),
  kv_compat: z.string().max(128).optional().describe("attention backend and KV dtype: prefill hands KV only to its like"),
};
/** How a node starts an engine. Placeholders: {port} {model} {role} {gpu_indices} {gpus} {group_id}. */
const launching = {
  env: z.record(z.string(), z.string()).optional().describe("added to the engine's small environment"),
  ready: z.string().startsWith("/").optional().describe("path that answers 200 once the engine serves; /health by default"),
  ready_ms: z.int().min(1).max(3_600_000).optional().describe("an engine that is not ready after this is stopped"),
  stop_ms: z.int().min(1).max(60_000).optional().describe("from SIGTERM to SIGKILL"),
};
const engineSource = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("simulated").describe("our own simulated A100, a process that speaks vLLM's protocol"),
    speed: z.number().positive().max(10_000).default(1).describe("1: as slow as the A100 model says; 10: ten times faster"),
    args: z.array(z.string()).default([]).describe("further flags of engines/simulated/main.ts"),
    ...launching,
    ...adapting,
  }),
  z.strictObject({
    kind: z.literal("vllm").describe("a vLLM server; see reference of its NixlConnector for two legs"),
    command: z.array(z.string()).min(1).describe("the command line, with placeholders; no shell reads it"),
    ...launching,
    ...adapting,
  }),
]);

const weight = z.int().min(0).max(1_000);
/** What the policies that are chosen go by; each field is for one of them and idle with the others. */
const policyParametersSchema = z
  .strictObject({
    service_weights: z
      .strictObject({ prompt: weight, cached: weight, output: weight })
      .describe("vtc: what a computed prompt token, a cached one and one of the answer count for in a tenant's share"),
    at_once: z
      .boolean()
      .describe("routings but least-load: place a call while there is a slot, and let engines queue; vtc then orders little"),
    seed: z.int().min(0).max(4_294_967_295).describe("random: where its chance begins"),
    ttft_ms_max: z.int().min(1).describe("early-rejection: refuse what is expected to begin later"),
    tbt_ms_max: z.int().min(1).describe("early-rejection: refuse what is expected to take longer between two tokens"),
  })
  .partial();

const fileSchema = z.strictObject({
  cell: id.describe("this cell's id: one gateway at a time holds it, by a lease in Postgres (I13)"),
  state_dir: z.string().min(1).describe("journal, owner id and node agents' state; relative to the configuration file"),
  listen: z
    .strictObject({
      host: z.string().default("127.0.0.1"),
      port: z.int().min(0).max(65_535).default(0).describe("0: any free port; the ready line names it"),
    })
    .prefault({}),
  provider: z.discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("local").describe("one node: this machine, through a node agent that outlives the gateway"),
      node_id: id,
      gpus: z.int().min(1).max(64),
      engines: z.record(z.string().regex(/^[a-z][a-z0-9_-]{0,63}$/), engineSource).describe("by the name that pools use"),
    }),
  ]),
  pools: z
    .array(
      z.strictObject({
        model: z.string().min(1).max(256),
        role: z.enum(["prefill", "decode", "both"]),
        groups: z.int().min(0).max(64).describe("how many instance groups there should be"),
        gpus: z.int().min(1).max(64).default(1).describe("GPUs of one group"),
        engine: z.string().describe("a name in provider.engines"),
      }),
    )
    .min(1),
  limits: z
    .strictObject({
      max_tokens_default: z.int().min(1).max(MAX_TOKENS_MAX).default(2_048).describe("for a request that names no limit"),
      deadline_ms_default: z.int().min(1).max(900_000).default(300_000).describe("for a call whose context names no deadline"),
      prefill_tokens_max: z.int().min(1).default(16_384).describe("prefill tokens in flight on one instance: full, never deep (D3)"),
      drain_ms: z
        .int()
        .min(0)
        .max(600_000)
        .default(10_000)
        .describe("on SIGTERM: how long running calls may take before they are cancelled"),
    })
    .prefault({}),
  lease_ms: z
    .int()
    .min(500)
    .max(600_000)
    .default(10_000)
    .describe("cell and node lease: nodes stop by themselves so long after the gateway is gone"),
  usage_cut_ms: z
    .int()
    .min(100)
    .max(60_000)
    .default(5_000)
    .describe("at most this long after a call ended its usage is on its way to Postgres"),
  policies: z
    .strictObject({
      admission: z.enum(POLICY_NAMES.admission),
      ordering: z.enum(POLICY_NAMES.ordering),
      routing: z.enum(POLICY_NAMES.routing),
      cache: z.enum(POLICY_NAMES.cache),
      elasticity: z.enum(POLICY_NAMES.elasticity),
      allocation: z.enum(POLICY_NAMES.allocation),
      parameters: policyParametersSchema,
    })
    .partial()
    .default({})
    .describe("which implementation answers each question, by its name in policy/README.md; the baseline where none is named"),
  record_decisions: z
    .string()
    .min(1)
    .optional()
    .describe("file for all that the scheduler is told and decides, for replay (docs/simulation.md); relative to the configuration file"),
});
type FileConfig = z.output<typeof fileSchema>;

export type ResolvedConfig = Omit<FileConfig, "cell" | "provider"> & {
  readonly cell: CellId;
  readonly provider: { readonly node_id: NodeId; readonly gpus: number; readonly engines: EngineCatalogueInput };
  /** By engine name. */
  readonly adapters: Readonly<Record<string, AdapterOptions>>;
  readonly database_url: string;
  /** Signs the edge's tokens and salts the prefix caches. */
  readonly cell_secret: string;
};

/** The rest of createVllmEngine's options. */
export type AdapterOptions = { readonly slots?: number; readonly kv_lease_ms?: number; readonly kv_compat?: string };

export type ConfigOutcome =
  | { readonly type: "ok"; readonly config: ResolvedConfig }
  | { readonly type: "faults"; readonly faults: readonly string[] };

const SECRET_CHARS_MIN = 32;
const SIMULATED_SLOTS = 128;

export function loadConfig(file: string, env: Readonly<Record<string, string | undefined>>): ConfigOutcome {
  const faults: string[] = [];
  const database_url = env["DATABASE_URL"] ?? "";
  const cell_secret = env["MILLRACE_CELL_SECRET"] ?? "";
  if (!/^postgres(ql)?:\/\//.test(database_url)) faults.push("DATABASE_URL: set it to a postgres:// URL");
  if (cell_secret.length < SECRET_CHARS_MIN) faults.push(`MILLRACE_CELL_SECRET: set it to at least ${SECRET_CHARS_MIN} characters`);
  const raw = readJson(file);
  if (raw.type === "fault") return { type: "faults", faults: [...faults, `${file}: ${raw.fault}`] };
  const parsed = fileSchema.safeParse(raw.value);
  if (!parsed.success) {
    faults.push(...parsed.error.issues.map((issue) => `${issue.path.join(".") || file}: ${issue.message}`));
    return { type: "faults", faults };
  }
  faults.push(...crossFaults(parsed.data));
  if (faults.length > 0) return { type: "faults", faults };
  const { cell, provider, state_dir, record_decisions, ...rest } = parsed.data;
  const beside = (name: string) => path.resolve(path.dirname(file), name);
  const { node_id, gpus, engines } = provider;
  const catalogue = Object.fromEntries(Object.entries(engines).map(([name, source]) => [name, launch(source)]));
  return {
    type: "ok",
    config: {
      ...rest,
      cell: asId<"cell">(cell),
      state_dir: beside(state_dir),
      ...(record_decisions === undefined ? {} : { record_decisions: beside(record_decisions) }),
      provider: { node_id: asId<"node">(node_id), gpus, engines: catalogue },
      adapters: Object.fromEntries(Object.entries(engines).map(([name, source]) => [name, adapter(source)])),
      database_url,
      cell_secret,
    },
  };
}

function readJson(file: string): { type: "value"; value: unknown } | { type: "fault"; fault: string } {
  try {
    return { type: "value", value: JSON.parse(readFileSync(file, "utf8")) };
  } catch (error) {
    return { type: "fault", fault: error instanceof Error ? error.message : String(error) };
  }
}

/** What no single field can know. */
function crossFaults(config: FileConfig): string[] {
  const faults: string[] = [];
  const seen = new Set<string>();
  let gpus = 0;
  config.pools.forEach((pool, i) => {
    if (!Object.hasOwn(config.provider.engines, pool.engine)) faults.push(`pools.${i}.engine: provider.engines has no ${pool.engine}`);
    const key = `${pool.model} ${pool.role}`;
    if (seen.has(key)) faults.push(`pools.${i}: a second pool of ${pool.model} with role ${pool.role}`);
    seen.add(key);
    gpus += pool.groups * pool.gpus;
  });
  if (gpus > config.provider.gpus) faults.push(`pools: ${gpus} GPUs are asked for, provider.gpus is ${config.provider.gpus}`);
  for (const model of new Set(config.pools.map((p) => p.model))) {
    const roles = config.pools.filter((p) => p.model === model && p.groups > 0).map((p) => p.role);
    if (roles.length > 0 && !roles.includes("both") && !(roles.includes("prefill") && roles.includes("decode")))
      faults.push(`pools: ${model} has ${roles.join(", ")} only; it needs prefill and decode, or both`);
  }
  const { parameters, ...names } = config.policies;
  faults.push(...parameterFaults(names, policyParameters(parameters)).map((fault) => `policies: ${fault}`));
  return faults;
}

/** No engine that serves live here can fetch KV from its peers: a conductor that counted on it would predict what does not happen. */
export function policyParameters(given: FileConfig["policies"]["parameters"]): PolicyParameters {
  const { service_weights, at_once, seed, ttft_ms_max, tbt_ms_max } = { ...given };
  return {
    ...DEFAULT_PARAMETERS,
    fetch_threshold: null,
    ...(service_weights === undefined ? {} : { service_weights }),
    ...(at_once === undefined ? {} : { at_once }),
    ...(seed === undefined ? {} : { seed }),
    ttft_ms_max: ttft_ms_max ?? null,
    tbt_ms_max: tbt_ms_max ?? null,
  };
}

function launch(source: z.output<typeof engineSource>): EngineCatalogueInput[string] {
  const { env, ready, ready_ms, stop_ms } = source;
  const common = {
    ...(env === undefined ? {} : { env }),
    ...(ready === undefined ? {} : { ready }),
    ...(ready_ms === undefined ? {} : { ready_ms }),
    ...(stop_ms === undefined ? {} : { stop_ms }),
  };
  if (source.kind === "vllm") return { command: source.command, ...common };
  const main = fileURLToPath(new URL("engines/simulated/main.ts", import.meta.url));
  const flags = ["--port", "{port}", "--model", "{model}", "--role", "{role}", "--exit-with-stdin"];
  const shape = ["--speed", String(source.speed), "--max-num-seqs", String(adapter(source).slots), ...source.args];
  return { command: [process.execPath, "--disable-warning=ExperimentalWarning", main, ...flags, ...shape], ...common };
}

function adapter(source: z.output<typeof engineSource>): AdapterOptions {
  const { kv_lease_ms, kv_compat } = source;
  const slots = source.slots ?? (source.kind === "simulated" ? SIMULATED_SLOTS : undefined);
  return {
    ...(slots === undefined ? {} : { slots }),
    ...(kv_lease_ms === undefined ? {} : { kv_lease_ms }),
    ...(kv_compat === undefined ? {} : { kv_compat }),
  };
}
