/** The process's options, resolved once; all faults in them are reported together. */
import { parseArgs } from "node:util";
import type { ModelProfile } from "../../engine-model/profile.ts";
import { MODELS, loadUs, profileOf } from "../../engine-model/profile.ts";

export type SimulatedRole = "prefill" | "decode" | "both";

export type Options = {
  readonly host: string;
  readonly port: number;
  readonly profile: ModelProfile;
  readonly role: SimulatedRole;
  readonly engine_id: string;
  /** Model time runs so many times faster than real time. Leases do not: the gateway's clock is real. */
  readonly speed: number;
  readonly kv_tokens: number;
  readonly context_tokens: number;
  readonly sequences: number;
  readonly step_tokens: number;
  readonly load_ms: number;
  readonly kv_lease_ms: number;
  readonly kv_port: number;
  readonly sim_control: boolean;
  readonly exit_with_stdin: boolean;
};

export type OptionsOutcome =
  | { readonly type: "ok"; readonly options: Options }
  | { readonly type: "faults"; readonly faults: readonly string[] };

/** `fallback_id` names the engine when no `--engine-id` is given. */
export function parseOptions(argv: readonly string[], fallback_id: string): OptionsOutcome {
  const faults: string[] = [];
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  let values: Record<string, string | boolean | undefined>;
  try {
    values = parseArgs({
      args: [...argv],
      options: {
        host: { ...text, default: "127.0.0.1" },
        port: { ...text, default: "0" },
        model: { ...text, default: "llama-3-8b" },
        tp: { ...text, default: "1" },
        pp: { ...text, default: "1" },
        "gpus-per-node": { ...text, default: "8" },
        "all-reduce": { ...text, default: "nccl" },
        role: { ...text, default: "both" },
        "engine-id": text,
        speed: { ...text, default: "1" },
        "kv-tokens": text,
        context: text,
        "max-num-seqs": { ...text, default: "256" },
        "max-num-batched-tokens": { ...text, default: "2048" },
        "load-ms": text,
        "kv-lease-ms": { ...text, default: "30000" },
        "kv-port": { ...text, default: "0" },
        "sim-control": flag,
        "exit-with-stdin": flag,
      },
    }).values;
  } catch (error) {
    return { type: "faults", faults: [(error as Error).message] };
  }

  const role = values["role"];
  if (role !== "prefill" && role !== "decode" && role !== "both") faults.push(`--role ${String(role)}: prefill, decode or both`);
  const number = (name: string, min: number, fallback: number, integer = true): number => {
    const given = values[name];
    if (given === undefined) return fallback;
    const value = Number(given);
    if (given === "" || !Number.isFinite(value) || value < min || (integer && !Number.isInteger(value))) {
      faults.push(`--${name} ${String(given)}: ${integer ? "an integer" : "a number"} of at least ${min}`);
    }
    return value;
  };
  const profile = readProfile(values, number, faults);
  const speed = number("speed", 0.001, 1, false);
  const kv_tokens = number("kv-tokens", 32, profile?.kv_tokens ?? 0);
  const context_tokens = number("context", 2, Math.min(profile?.context_tokens ?? 0, kv_tokens));
  if (context_tokens > kv_tokens) faults.push(`--context ${context_tokens}: larger than --kv-tokens ${kv_tokens}`);
  const numbers = {
    port: number("port", 0, 0),
    kv_port: number("kv-port", 0, 0),
    sequences: number("max-num-seqs", 1, 256),
    step_tokens: number("max-num-batched-tokens", 16, 2_048),
    load_ms: number("load-ms", 0, profile === null ? 0 : loadUs(profile) / 1_000 / speed, false),
    kv_lease_ms: number("kv-lease-ms", 1, 30_000),
  };
  if (faults.length > 0 || profile === null) return { type: "faults", faults };
  return {
    type: "ok",
    options: {
      ...numbers,
      host: String(values["host"]),
      profile,
      role: role as SimulatedRole,
      engine_id: typeof values["engine-id"] === "string" ? values["engine-id"] : fallback_id,
      speed,
      kv_tokens,
      context_tokens,
      sim_control: values["sim-control"] === true,
      exit_with_stdin: values["exit-with-stdin"] === true,
    },
  };
}

/** Null when a flag is at fault. */
function readProfile(
  values: Readonly<Record<string, string | boolean | undefined>>,
  number: (name: string, min: number, fallback: number) => number,
  faults: string[],
): ModelProfile | null {
  const before = faults.length;
  const model = String(values["model"]);
  if (MODELS[model] === undefined) faults.push(`--model ${model}: known are ${Object.keys(MODELS).join(", ")}`);
  const all_reduce = values["all-reduce"];
  if (all_reduce !== "nccl" && all_reduce !== "nvrar") faults.push(`--all-reduce ${String(all_reduce)}: nccl or nvrar`);
  const gpus = { tp: number("tp", 1, 1), pp: number("pp", 1, 1), gpus_per_node: number("gpus-per-node", 1, 8) };
  if (faults.length > before) return null;
  const outcome = profileOf({ model, ...gpus, all_reduce: all_reduce === "nvrar" ? "nvrar" : "nccl" });
  if (outcome.type === "profile") return outcome.profile;
  faults.push(`--model ${model} --tp ${gpus.tp} --pp ${gpus.pp}: ${outcome.fault}`);
  return null;
}
