/** Which port a part listens on: what was asked for, or a free one. */
import { createServer } from "node:net";

export type PortChoice = { readonly ok: true; readonly port: number } | { readonly ok: false; readonly message: string };

/** Null: it can be listened on; else the operating system's code for why not. */
export function whyNot(port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(null)));
  });
}

/** `flag` is what the reader is told to change. */
export function portMessage(port: number, code: string, flag: string): string {
  if (code === "EADDRINUSE") return `port ${port} is in use; stop what listens there or choose another with ${flag}.`;
  if (code === "EACCES") return `port ${port} is kept for privileged users; choose another with ${flag}, of 1024 or more.`;
  return `port ${port} cannot be used (${code}); choose another with ${flag}.`;
}

function anyFree(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      const port = typeof address === "object" && address ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

/** A port that was named must be free; the usual one is taken if it is free, else any. */
export async function choosePort(named: number | undefined, usual: number, flag: string): Promise<PortChoice> {
  if (named !== undefined && named !== 0) {
    const code = await whyNot(named);
    return code === null ? { ok: true, port: named } : { ok: false, message: portMessage(named, code, flag) };
  }
  if (named === undefined && (await whyNot(usual)) === null) return { ok: true, port: usual };
  return { ok: true, port: await anyFree() };
}

/** Two parts cannot listen on one port; null when all that are named differ. 0 names none. */
export function samePort(named: readonly (readonly [flag: string, port: number | undefined])[]): string | null {
  for (const [i, [flag, port]] of named.entries()) {
    const earlier = port ? named.slice(0, i).find(([, other]) => other === port) : undefined;
    if (earlier) return `${earlier[0]} and ${flag} are both ${port}; choose two different ports.`;
  }
  return null;
}
