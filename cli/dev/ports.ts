/** Which port a part listens on: what was asked for, or a free one. */
import { createServer } from "node:net";

export type PortChoice = { readonly ok: true; readonly port: number } | { readonly ok: false; readonly message: string };

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
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

/**
 * A port that was named must be free; the usual one is taken if it is free, else any. `flag` is what the message tells the
 * reader to change.
 */
export async function choosePort(named: number | undefined, usual: number, flag: string): Promise<PortChoice> {
  if (named !== undefined && named !== 0) {
    if (await isFree(named)) return { ok: true, port: named };
    return { ok: false, message: `port ${named} is in use; stop what listens there or choose another with ${flag}.` };
  }
  if (named === undefined && (await isFree(usual))) return { ok: true, port: usual };
  return { ok: true, port: await anyFree() };
}
