/** What `npm start` says once it serves: commands that work as they are printed, pasted into another terminal. */
import { resolve } from "node:path";
import { DEFAULT_STATE } from "./state.ts";

export type Welcomed = { readonly edge_url: string; readonly gateway_url: string; readonly key: string };
export type Place = { readonly root: string; readonly state: string; readonly cwd: string };

export function welcome({ edge_url, gateway_url, key }: Welcomed, { root, state, cwd }: Place): string {
  const folder = resolve(cwd, state);
  const named = folder === DEFAULT_STATE ? "" : ` --state ${quoted(folder)}`;
  return [
    "",
    "ready",
    `  edge     ${edge_url}`,
    `  gateway  ${gateway_url}`,
    `  key      ${key}`,
    "",
    `Try (in another terminal, in ${cwd === root ? "this folder" : root}):`,
    "",
    "  # ask the swarm over HTTP",
    `  curl -sS ${edge_url}/v1/functions/swarm/invocations -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '{"input":{"question":"Should we heat the greenhouse with waste heat from the GPU hall?"}}'`,
    "",
    "  # hold a WebSocket session with it",
    `  npx millrace chat swarm${named}`,
    "",
    "  # who used what, what it cost, and that it adds up",
    `  curl -sS '${edge_url}/v1/usage?group_by=agent&settle=true' -H 'Authorization: Bearer ${key}'`,
    "",
    "Ctrl-C stops everything.",
  ].join("\n");
}

/** As one word of a POSIX shell. */
const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
