/** One constant of the recorded policies, changed: what would have been decided with another? */
import type { PolicyChoice } from "../../policy/catalogue.ts";

export type Altered = { readonly type: "altered"; readonly policies: PolicyChoice } | { readonly type: "fault"; readonly fault: string };

/** `name=value`: a limit of the scheduler, a policy's parameter (`service_weights.output`), `queued_per_model_max`, or a question's policy. */
export function alter(policies: PolicyChoice, change: string): Altered {
  const at = change.indexOf("=");
  const name = change.slice(0, Math.max(0, at));
  if (name === "") return { type: "fault", fault: `--alter ${change}: write NAME=VALUE` };
  const value = readValue(change.slice(at + 1));
  const { names, limits, parameters, queued_per_model_max } = policies;
  const known = { ...flat(parameters), ...limits, queued_per_model_max, ...names };
  const before = known[name as keyof typeof known] as unknown;
  if (!Object.hasOwn(known, name)) return { type: "fault", fault: `--alter ${name}: there are ${Object.keys(known).join(", ")}` };
  if (before !== null && value !== null && typeof value !== typeof before)
    return { type: "fault", fault: `--alter ${name}: it is ${JSON.stringify(before)}; ${JSON.stringify(value)} is of another kind` };
  if (Object.hasOwn(names, name)) return altered({ ...policies, names: { ...names, [name]: value } });
  if (Object.hasOwn(limits, name)) return altered({ ...policies, limits: { ...limits, [name]: value } });
  if (name === "queued_per_model_max") return altered({ ...policies, [name]: value as number });
  const [outer = name, inner] = name.split(".");
  const group = parameters[outer as keyof typeof parameters] as object;
  return altered({ ...policies, parameters: { ...parameters, [outer]: inner === undefined ? value : { ...group, [inner]: value } } });
}

const altered = (policies: PolicyChoice): Altered => ({ type: "altered", policies });

function flat(values: object): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(values) as [string, unknown][])
    if (typeof value === "object" && value !== null) for (const [inner, one] of Object.entries(value)) out[`${name}.${inner}`] = one;
    else out[name] = value;
  return out;
}

/** A number, true, false or null as JSON has them; anything else is a word. */
function readValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
