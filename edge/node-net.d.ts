/** The part of `node:net` (flag nodejs_compat) that database.ts uses. */
declare module "node:net" {
  export type Socket = {
    once(event: "connect", listener: () => void): Socket;
    once(event: "error", listener: (error: Error) => void): Socket;
    removeListener(event: "error", listener: (error: Error) => void): Socket;
    destroy(): void;
  };
  export function connect(options: { host: string; port: number }): Socket;
}
