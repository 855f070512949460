/** What `millrace plan` was asked, as plain data: made here from flags, handed to the thread that plans. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { type ClusterFile, parseClusterFile } from "../../gpu-gateway/simulator/planner/cluster-file.ts";
import { POLICY_KEYS, type PolicySet } from "../../gpu-gateway/simulator/planner/policy-sets.ts";
import type { Slo } from "../../gpu-gateway/simulator/planner/slo.ts";
import type { ReadOptions } from "../../gpu-gateway/simulator/traces/lines.ts";
import { TRACE_FORMATS, type TraceFormat } from "../../gpu-gateway/simulator/traces/read.ts";
import { UsageFault } from "../connection.ts";

export type TraceRequest =
  | { readonly type: "file"; readonly file: string; readonly format: TraceFormat | null; readonly read: ReadOptions }
  | { readonly type: "sharegpt"; readonly calls: number; readonly per_second: number }
  | {
      readonly type: "agents";
      readonly agents: number;
      readonly turns: number;
      readonly system_tokens: number;
      readonly added_tokens: number;
      readonly answer_tokens: number;
      readonly tool_ms: number;
    };

export type PlanRequest = {
  readonly trace: TraceRequest;
  /** Multiple 1 is so many times the trace's own load. */
  readonly rate: number;
  /** Of sessions and agents. */
  readonly users: number | null;
  readonly gap_s_max: number;
  readonly cluster: ClusterFile;
  readonly slo: Slo;
  readonly seed: number;
  readonly goodput: "best" | "all" | "none";
  readonly objective: "goodput" | "goodput_per_gpu";
  readonly tolerance: number;
  readonly warm_up: number;
  readonly patience_s: number;
};

export type PlanFlags = {
  readonly cluster?: string;
  readonly slo?: string;
  readonly format?: string;
  readonly nodes?: string;
  readonly policies?: readonly string[];
  readonly rate: number;
  readonly fromMs?: number;
  readonly toMs?: number;
  readonly limit?: number;
  readonly skipMalformed?: boolean;
  readonly users?: number;
  readonly gapMax: number;
  readonly goodput: string;
  readonly objective: string;
  readonly tolerance: number;
  readonly warmUp: number;
  readonly patience: number;
  readonly seed: number;
};

/** All that is wrong with flags and files, in one fault. */
export function planRequest(trace: string, flags: PlanFlags): PlanRequest {
  const faults: string[] = [];
  const attempt = <T>(what: () => T): T | null => {
    try {
      return what();
    } catch (error) {
      if (!(error instanceof UsageFault)) throw error;
      faults.push(error.message);
      return null;
    }
  };
  const trace_request = attempt(() => traceOf(trace, flags));
  const slo = attempt(() => sloOf(flags.slo ?? missing("--slo, as ttft=200ms,tpot=100ms,attainment=0.9")));
  const cluster = attempt(() => clusterOf(flags.cluster ?? missing("--cluster, a file like those in examples/clusters/"), flags));
  if (trace_request === null || slo === null || cluster === null) throw new UsageFault(faults.join("\n  "));
  return {
    trace: trace_request,
    rate: flags.rate,
    users: flags.users ?? null,
    gap_s_max: flags.gapMax,
    cluster,
    slo,
    seed: flags.seed,
    goodput: flags.goodput as PlanRequest["goodput"],
    objective: flags.objective as PlanRequest["objective"],
    tolerance: flags.tolerance,
    warm_up: flags.warmUp,
    patience_s: flags.patience,
  };
}

const GENERATED = {
  sharegpt: z.strictObject({ calls: z.int().min(1).max(1_000_000).default(2_000), per_second: z.number().positive().default(1) }),
  agents: z.strictObject({
    agents: z.int().min(1).max(100_000).default(100),
    turns: z.int().min(1).max(10_000).default(10),
    system_tokens: z.int().min(0).default(2_000),
    added_tokens: z.int().min(1).default(400),
    answer_tokens: z.int().min(1).default(150),
    tool_ms: z.number().min(0).default(2_000),
  }),
};

/** A file, or `sharegpt` or `agents` with settings after a colon. A file of such a name is written ./sharegpt. */
function traceOf(text: string, flags: PlanFlags): TraceRequest {
  const [name, settings = ""] = text.split(/:(.*)/s);
  if (name === "sharegpt") return { type: name, ...generated(name, settings) };
  if (name === "agents") return { type: name, ...generated(name, settings) };
  if (flags.format !== undefined && !(TRACE_FORMATS as readonly string[]).includes(flags.format))
    throw new UsageFault(`--format ${flags.format}: there are ${TRACE_FORMATS.join(", ")}`);
  return {
    type: "file",
    file: text,
    format: (flags.format as TraceFormat | undefined) ?? null,
    read: {
      limit: flags.limit ?? null,
      from_ms: flags.fromMs ?? 0,
      to_ms: flags.toMs ?? null,
      skip_malformed: flags.skipMalformed ?? false,
    },
  };
}

function generated<K extends keyof typeof GENERATED>(name: K, settings: string): z.infer<(typeof GENERATED)[K]> {
  const parsed = GENERATED[name].safeParse(pairs(name, settings, Number));
  if (!parsed.success) throw new UsageFault(parsed.error.issues.map((i) => `${name}: ${[...i.path, i.message].join(": ")}`).join("; "));
  return parsed.data as z.infer<(typeof GENERATED)[K]>;
}

function sloOf(text: string): Slo {
  const given = pairs("--slo", text, (value) => value);
  const known = ["ttft", "tpot", "attainment"];
  for (const name of Object.keys(given))
    if (!known.includes(name)) throw new UsageFault(`--slo: ${name} is not one of ${known.join(", ")}`);
  const attainment = given["attainment"] === undefined ? 0.9 : shareOf(given["attainment"]);
  if (given["ttft"] === undefined || given["tpot"] === undefined)
    throw new UsageFault("--slo needs ttft and tpot, as ttft=200ms,tpot=100ms");
  return { ttft_us: microsOf("ttft", given["ttft"]), tpot_us: microsOf("tpot", given["tpot"]), attainment };
}

function microsOf(name: string, text: string): number {
  const found = /^(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text);
  const us = Number(found?.[1]) * { us: 1, ms: 1_000, s: 1_000_000 }[(found?.[2] ?? "us") as "us" | "ms" | "s"];
  if (!(us > 0)) throw new UsageFault(`--slo: ${name} is ${text}, not a time like 200ms or 2.5s`);
  return us;
}

function shareOf(text: string): number {
  const share = text.endsWith("%") ? Number(text.slice(0, -1)) / 100 : Number(text);
  if (!(share > 0 && share <= 1)) throw new UsageFault(`--slo: attainment is ${text}, not a share like 0.9 or 90%`);
  return share;
}

function missing(what: string): never {
  throw new UsageFault(`a plan needs ${what}`);
}

function clusterOf(file: string, flags: PlanFlags): ClusterFile {
  const value = jsonFile(file);
  const nodes = flags.nodes === undefined ? {} : { nodes: nodesOf(flags.nodes) };
  const policies = flags.policies === undefined ? {} : { policies: flags.policies.map(policySetOf) };
  const outcome = parseClusterFile(typeof value === "object" && value !== null ? { ...value, ...nodes, ...policies } : value);
  if (outcome.type === "faults") throw new UsageFault(`${file}: ${outcome.faults.join("; ")}`);
  return outcome.cluster;
}

function jsonFile(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageFault(`--cluster ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageFault(`${file} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function nodesOf(text: string): number | { min: number; max: number } {
  const found = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (found === null) throw new UsageFault(`--nodes ${text}: a number, or a range like 1-16`);
  return found[2] === undefined ? Number(found[1]) : { min: Number(found[1]), max: Number(found[2]) };
}

/** `baseline`, or `routing=conductor,cache=prefix-index`. */
function policySetOf(text: string): PolicySet {
  if (text === "baseline") return { name: text };
  const set = pairs("--policies", text, (value) => (value === "true" ? true : Number.isNaN(Number(value)) ? value : Number(value)));
  for (const name of Object.keys(set))
    if (!POLICY_KEYS.includes(name))
      throw new UsageFault(`--policies: ${name} is not one of ${POLICY_KEYS.join(", ")}, and baseline stands alone`);
  return set;
}

function pairs<T>(what: string, text: string, value: (text: string) => T): Record<string, T> {
  const found: Record<string, T> = {};
  for (const part of text.split(",").filter((each) => each.trim() !== "")) {
    const at = part.indexOf("=");
    if (at < 1) throw new UsageFault(`${what}: "${part.trim()}" is not name=value`);
    found[part.slice(0, at).trim()] = value(part.slice(at + 1).trim());
  }
  return found;
}
