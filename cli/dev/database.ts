/**
 * The embedded Postgres of a running product, kept up: one that dies is started again on the same port, after a delay that doubles, so
 * that gateway and edge find it where it was.
 */
import { startPostgres, type RunningPostgres } from "./postgres.ts";

const RESTART_DELAY_MS = 250;
const RESTART_DELAY_MS_MAX = 10_000;

export type DatabaseOptions = {
  readonly dir: string;
  readonly port: number | undefined;
  readonly restart: boolean;
  readonly on_up: (postgres: RunningPostgres) => void;
  readonly on_death: (message: string) => void;
};

export type Database = {
  readonly url: string;
  stop(): Promise<void>;
};

export async function keepDatabase(options: DatabaseOptions): Promise<Database> {
  const { dir, restart, on_up, on_death } = options;
  let current = await startPostgres({ dir, ...(options.port === undefined ? {} : { port: options.port }) });
  const { url, port } = current;
  let stopping = false;
  let timer: NodeJS.Timeout | null = null;
  let starting: Promise<void> | null = null;

  const watch = (postgres: RunningPostgres): void => {
    on_up(postgres);
    void postgres.exited.then(() => died("Postgres ended", RESTART_DELAY_MS));
  };
  const died = (message: string, delay_ms: number): void => {
    if (stopping) return;
    if (!restart) {
      on_death(`${message}; it stays down (--no-restart)`);
      return;
    }
    on_death(`${message}; starting it again in ${delay_ms} ms`);
    timer = setTimeout(() => {
      starting = again(Math.min(delay_ms * 2, RESTART_DELAY_MS_MAX));
    }, delay_ms);
  };
  const again = async (next_delay_ms: number): Promise<void> => {
    try {
      current = await startPostgres({ dir, port });
      if (!stopping) watch(current);
    } catch (error) {
      died(error instanceof Error ? error.message : String(error), next_delay_ms);
    }
  };
  watch(current);
  return {
    url,
    stop: async () => {
      stopping = true;
      if (timer) clearTimeout(timer);
      await starting;
      await current.stop();
    },
  };
}
