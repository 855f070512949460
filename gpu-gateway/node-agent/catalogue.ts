/**
 * The engine catalogue: how a node starts each kind of engine, by name. The node's own file, not the gateway's word: a command
 * chooses a name from it and can never send a command line. Read at each launch, so that a changed file needs no restart.
 */
import { readFileSync } from "node:fs";
import { z } from "zod";

/** Each is replaced wherever it stands in `command` and in the values of `env`. */
const PLACEHOLDERS = ["port", "model", "role", "gpu_indices", "gpus", "group_id"] as const;
type Placeholder = (typeof PLACEHOLDERS)[number];

const template = z.string().superRefine((text, context) => {
  for (const [, name] of text.matchAll(/\{([a-z_]+)\}/g))
    if (!(PLACEHOLDERS as readonly string[]).includes(name ?? ""))
      context.addIssue({ code: "custom", message: `{${name}} is not known; there are {${PLACEHOLDERS.join("}, {")}}` });
});

const engineEntry = z.object({
  command: z.array(template).min(1).max(256),
  /** Added to a small environment; an engine does not inherit the gateway's secrets. */
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), template).default({}),
  ready: z.string().startsWith("/").default("/health"),
  /** An engine that is not ready after this is stopped and reported lost. */
  ready_ms: z.int().min(1).max(3_600_000).default(600_000),
  /** From SIGTERM to SIGKILL. */
  stop_ms: z.int().min(1).max(60_000).default(5_000),
});
export const engineCatalogue = z.record(z.string().min(1).max(64), engineEntry);
export type EngineCatalogue = z.infer<typeof engineCatalogue>;
export type EngineCatalogueInput = z.input<typeof engineCatalogue>;
export type EngineEntry = z.infer<typeof engineEntry>;

/** A map: a command that names `constructor` finds nothing. */
export function readCatalogue(path: string): ReadonlyMap<string, EngineEntry> {
  return new Map(Object.entries(engineCatalogue.parse(JSON.parse(readFileSync(path, "utf8")))));
}

export type Filled = { readonly command: string; readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> };

/** No shell reads the result: an argument stays one argument, whatever is in it. */
export function fill(entry: EngineEntry, values: Readonly<Record<Placeholder, string>>): Filled {
  const replace = (text: string): string => text.replaceAll(/\{([a-z_]+)\}/g, (_, name: Placeholder) => values[name]);
  const [command = "", ...args] = entry.command.map(replace);
  return { command, args, env: Object.fromEntries(Object.entries(entry.env).map(([name, value]) => [name, replace(value)])) };
}
