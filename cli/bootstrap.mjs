#!/usr/bin/env node
/**
 * The door of `npm start`, `npm run demo`, `npm test`, `npm run sim` and the `millrace` command. Plain JavaScript, because it must run on
 * whatever Node (20 or newer) the machine has: it installs exactly what the lock file says if that is missing, finds a Node
 * that runs TypeScript natively (the locked platform package, else the machine's own), and hands over to cli/main.ts.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR_MIN = 24;
const root = dirname(dirname(fileURLToPath(import.meta.url)));

function stop(message) {
  process.stderr.write(`millrace: ${message}\n`);
  process.exit(1);
}

const major = Number(process.versions.node.split(".")[0]);
if (major < 20) stop(`Node ${process.versions.node} is too old; install Node 20 or newer and run this again.`);

/** `npm ci`, unless the last one was for this very lock file. */
function install() {
  const lock_text = readFileSync(join(root, "package-lock.json"), "utf8");
  const lock = createHash("sha256").update(lock_text).digest("hex");
  const stamp = join(root, "node_modules", ".millrace-lock");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  if (!isInstalled(lock_text)) {
    const running = runningHere();
    if (running !== null)
      stop(
        `npm ci is needed, and would take away the files of the Millrace that runs here (pid ${running}); stop it, then run this again.`,
      );
    npmCi();
  }
  try {
    writeFileSync(stamp, lock);
  } catch {
    // A checkout that this user may not write: the next start looks again.
  }
}

/**
 * Whether node_modules is what the lock file says already, because somebody ran npm by hand. npm notes what it installed in
 * node_modules/.package-lock.json as its last step, so this is its own word, and an install that was broken off has none. (Times of
 * files would say less: a checkout of another branch leaves an older package-lock.json newer.) What is not for this machine is
 * left out by npm; the one of two C libraries that a package is for is not asked here.
 */
function isInstalled(lock_text) {
  try {
    const wanted = JSON.parse(lock_text).packages;
    const there = JSON.parse(readFileSync(join(root, "node_modules", ".package-lock.json"), "utf8")).packages;
    const isFor = (of, mine) => of?.includes(mine);
    return (
      Object.keys(there).every((path) => wanted[path] !== undefined) &&
      Object.entries(wanted).every(([path, { version, integrity, optional, os, cpu, libc }]) => {
        if (path === "") return true;
        if (there[path]) return there[path].version === version && there[path].integrity === integrity;
        return optional === true && !(isFor(os, process.platform) && isFor(cpu, process.arch) && libc === undefined);
      })
    );
  } catch {
    return false; // nothing installed, or by something that keeps no such note
  }
}

function npmCi() {
  process.stderr.write("millrace: installing what package-lock.json says (npm ci) …\n");
  const npm = process.env.npm_execpath;
  const [command, args] = npm && /\.c?js$/.test(npm) ? [process.execPath, [npm]] : ["npm", []];
  const done = spawnSync(command, [...args, "ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    // The scripts' own npm settings must not leak into the inner npm.
    env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(lifecycle|package|command)/.test(name))),
  });
  if (done.error) stop(`npm was not found (${done.error.message}); install npm 10 or newer and run this again.`);
  if (done.status !== 0) stop("npm ci failed; its message is above. Mend that and run this again.");
}

/** The pid of a product that runs or starts in a state folder that this command knows of; else null. */
function runningHere() {
  const named = process.argv.flatMap((arg, i) =>
    arg === "--state" ? [process.argv[i + 1]] : arg.startsWith("--state=") ? [arg.slice(8)] : [],
  );
  for (const folder of [join(root, ".millrace"), process.env.MILLRACE_STATE, ...named])
    for (const [file, owner] of [
      ["start.lock", (value) => value],
      ["run.json", (value) => value.supervisor],
    ]) {
      try {
        const { pid, started } = owner(JSON.parse(readFileSync(join(folder, file), "utf8")));
        if (processStarted(pid) === started) return pid;
      } catch {
        // No such file, or no such process.
      }
    }
  return null;
}

/** As in dev/process.ts, which an older Node cannot read. */
function processStarted(pid) {
  if (process.platform !== "linux") return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? null : fields[19];
}

function versionOf(binary) {
  const asked = spawnSync(binary, ["--version"], { encoding: "utf8" });
  return asked.status === 0 ? Number(/^v(\d+)/.exec(asked.stdout)?.[1] ?? 0) : 0;
}

function findNode() {
  const installed = join(root, "node_modules", ".bin", process.platform === "win32" ? "node.exe" : "node");
  if (existsSync(installed) && versionOf(installed) >= NODE_MAJOR_MIN) return installed;
  if (major >= NODE_MAJOR_MIN) return process.execPath;
  return stop(
    `this needs Node ${NODE_MAJOR_MIN} or newer to run TypeScript, and npm brought none for ${process.platform}-${process.arch}; ` +
      `install Node ${NODE_MAJOR_MIN} (you have ${process.versions.node}).`,
  );
}

install();
const node = findNode();
const args = process.argv.slice(2);
// The check and the simulation are the project's own, not commands of the product.
const OWN = { check: join(root, "test", "check.ts"), sim: join(root, "gpu-gateway", "simulator", "sim", "main.ts") };
const own = Object.hasOwn(OWN, args[0] ?? "") ? OWN[args[0]] : undefined;
const entry = own === undefined ? [join(root, "cli", "main.ts"), ...args] : [own, ...args.slice(1)];
const child = spawn(node, ["--disable-warning=ExperimentalWarning", ...entry], {
  stdio: "inherit",
  env: {
    ...process.env,
    PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`,
    WRANGLER_SEND_METRICS: "false",
  },
});
// A terminal's Ctrl-C reaches the child by itself, and once more from here: it stops once. A signal sent to this process alone is passed on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => stop(`cannot start ${String(node)}: ${error.message}`));
child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
