/**
 * What the layout of the repository promises (docs/architecture.md, DESIGN §2), as functions over file names and texts, so that
 * the test beside can also show that each check can fail.
 */

export type SourceFile = { readonly path: string; readonly text: string };
export type Breach = { readonly path: string; readonly what: string };

/** The rooms, and which rooms each may import. A room may always import itself. First match wins. */
const ROOMS: readonly { readonly room: string; readonly prefix: string; readonly may: readonly string[] }[] = [
  { room: "schema/core", prefix: "schema/core/", may: [] },
  { room: "schema/db", prefix: "schema/db/", may: ["schema/core"] },
  { room: "policy", prefix: "gpu-gateway/policy/", may: ["schema/core"] },
  { room: "engine-model", prefix: "gpu-gateway/engine-model/", may: ["schema/core"] },
  // Runs of the whole: sessions drive the gateway's own end of a link, and the books its line of time. Nothing that serves imports them.
  ...["checkers", "faults", "sessions", "sim"].map((folder) => ({
    room: "simulation",
    prefix: `gpu-gateway/simulator/${folder}/`,
    may: ["schema/core", "policy", "engine-model", "simulator", "runtime", "server"],
  })),
  { room: "simulator", prefix: "gpu-gateway/simulator/", may: ["schema/core", "policy", "engine-model", "simulation"] },
  { room: "ports", prefix: "gpu-gateway/ports/", may: ["schema/core", "policy"] },
  { room: "engines", prefix: "gpu-gateway/engines/", may: ["schema/core", "policy", "ports", "engine-model"] },
  { room: "providers", prefix: "gpu-gateway/providers/", may: ["schema/core", "policy", "ports", "node-agent"] },
  { room: "node-agent", prefix: "gpu-gateway/node-agent/", may: ["schema/core", "policy", "ports"] },
  { room: "runtime", prefix: "gpu-gateway/runtime/", may: ["schema/core", "schema/db", "policy", "ports", "engines", "providers"] },
  { room: "server", prefix: "gpu-gateway/server/", may: ["schema/core", "schema/db", "policy", "ports", "runtime"] },
  {
    room: "main",
    prefix: "gpu-gateway/",
    may: ["schema/core", "schema/db", "policy", "ports", "engines", "providers", "node-agent", "runtime", "server", "engine-model"],
  },
  { room: "sdk", prefix: "sdk/", may: ["schema/core"] },
  { room: "edge", prefix: "edge/", may: ["schema/core", "schema/db", "sdk"] },
  { room: "cli", prefix: "cli/", may: ["schema/core", "schema/db", "sdk", "policy", "engine-model", "simulator"] },
  { room: "examples", prefix: "examples/", may: ["sdk"] },
  {
    room: "bench",
    prefix: "bench/",
    may: [
      "schema/core",
      "schema/db",
      "policy",
      "ports",
      "engines",
      "engine-model",
      "simulator",
      "providers",
      "runtime",
      "server",
      "main",
      "cli",
      "sdk",
    ],
  },
  { room: "test", prefix: "test/", may: ["*"] },
];

const roomOf = (path: string) => ROOMS.find((room) => path.startsWith(room.prefix));

/** The package's own name is the SDK (package.json, "exports"). */
const isOurPackage = (name: string): boolean => name === "millrace" || name.startsWith("millrace/");

/** Every module a file names in import, export … from, import() or new URL(…, import.meta.url), comments left out. */
export function importsOf(text: string): string[] {
  const code = withoutComments(text);
  const found: string[] = [];
  for (const pattern of [
    /\b(?:import|export)\b[^"'`;]*?\bfrom\s*["']([^"']+)["']/g,
    /\bimport\s*["']([^"']+)["']/g,
    /\bimport\s*\(\s*["'`]([^"'`]+)["'`]/g,
    /\bnew\s+URL\s*\(\s*["'`]([^"'`]+\.ts)["'`]\s*,\s*import\.meta\.url/g,
  ]) {
    for (const match of code.matchAll(pattern)) if (match[1]) found.push(match[1]);
  }
  return found;
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, " ").replace(/(^|[^:"'`\\])\/\/[^\n]*/g, "$1");
}

function withoutStrings(code: string): string {
  return code.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""');
}

function resolve(from: string, to: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of to.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Tests, and what only tests import, wherever they lie. */
export const isTest = (path: string) => /(\.(test|conformance|test-support|test-child)\.ts|\/testing\.ts|vitest\.config\.ts)$/.test(path);

/** Imports point one way (DESIGN §2). Tests beside the code may import the world. */
export function importBreaches(files: readonly SourceFile[]): Breach[] {
  return files
    .filter((file) => !isTest(file.path))
    .flatMap((file) => {
      const room = roomOf(file.path);
      if (!room || room.may.includes("*")) return [];
      return importsOf(file.text)
        .filter((name) => name.startsWith(".") || isOurPackage(name) || name.endsWith(".ts"))
        .flatMap((name) => {
          const path = isOurPackage(name) ? "sdk/index.ts" : resolve(file.path, name);
          if (isTest(path)) return [{ path: file.path, what: `what ships may not import what only tests need (${name})` }];
          const target = roomOf(path);
          if (!target || target.room === room.room || room.may.includes(target.room)) return [];
          return [{ path: file.path, what: `${room.room} may not import ${target.room} (${name})` }];
        });
    });
}

/** The rooms in which no clock, randomness, socket or promise may be reached (D1). */
const PURE = ["schema/core/", "gpu-gateway/policy/", "gpu-gateway/engine-model/"];
const PURE_PACKAGES = ["zod", "@noble/hashes"];
const IMPURE =
  /\b(async|await|Promise|Date|performance|setTimeout|setInterval|setImmediate|queueMicrotask|crypto|fetch|WebSocket|process|globalThis|eval|Function|Atomics|Temporal|console)\b|\bMath\b(?!\s*\.\s*(?!random\b)\w)|\.\s*constructor\b|\bglobal\b|\brequire\b|\bIntl\s*\.\s*DateTimeFormat|\bthen\s*\(|\bimport\s*\(/;

export function purityBreaches(files: readonly SourceFile[]): Breach[] {
  return files
    .filter((file) => PURE.some((prefix) => file.path.startsWith(prefix)) && !isTest(file.path))
    .flatMap((file) => {
      const code = withoutStrings(withoutComments(file.text));
      const found: Breach[] = [];
      const hit = IMPURE.exec(code);
      if (hit) found.push({ path: file.path, what: `reaches ${hit[0]}` });
      for (const name of importsOf(file.text)) {
        if (!name.startsWith(".") && !PURE_PACKAGES.some((allowed) => name === allowed || name.startsWith(`${allowed}/`)))
          found.push({ path: file.path, what: `imports ${name}` });
      }
      return found;
    });
}

/** Every top-level folder is explained in docs/architecture.md as `name/`. */
export function folderBreaches(folders: readonly string[], architecture: string): Breach[] {
  return folders
    .filter((folder) => !architecture.includes(`\`${folder}/\``))
    .map((folder) => ({ path: folder, what: "is not explained in docs/architecture.md" }));
}
