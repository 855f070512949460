/** A port on loopback that nobody listens on. Another program may take it before the engine does: the engine then exits and is lost. */
import { createServer } from "node:net";
import { PORT_TRIES_MAX } from "./limits.ts";

export async function freePort(taken: ReadonlySet<number>): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES_MAX; tries++) {
    const port = await askForPort();
    if (!taken.has(port)) return port;
  }
  throw new Error(`no free port in ${PORT_TRIES_MAX} tries`);
}

function askForPort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === "object") resolve(address.port);
        else reject(new Error("no address"));
      });
    });
  });
}
