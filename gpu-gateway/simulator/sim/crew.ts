/** Threads that share the jobs. What is done comes in any order; who asked puts it in order. */
import { Worker } from "node:worker_threads";
import type { Done, Job } from "./messages.ts";

/** Each holds a world or two: so much heap is plenty, and a world that needs more is a bug. */
const HEAP_MB = 1_024;

export class Crew {
  readonly #workers: Worker[] = [];

  /** Resolves when every job is done, or `stop` was called; rejects when a thread dies. */
  async run(jobs: Iterator<Job>, threads: number, done: (job: Job, one: Done) => void): Promise<void> {
    await Promise.all(Array.from({ length: threads }, () => this.#work(jobs, done)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }

  async #work(jobs: Iterator<Job>, done: (job: Job, one: Done) => void): Promise<void> {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { resourceLimits: { maxOldGenerationSizeMb: HEAP_MB } });
    this.#workers.push(worker);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let present: Job | null = null;
    const next = (): void => {
      const { value, done: over } = jobs.next();
      present = over === true ? null : value;
      if (present === null) resolve();
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      else worker.postMessage(present);
    };
    worker.on("message", (one: Done) => {
      if (present !== null) done(present, one);
      next();
    });
    worker.on("error", (error) => reject(new Error(`a thread died at ${named(present)}`, { cause: error })));
    // Stopped from outside: what it was at is not done.
    worker.on("exit", () => resolve());
    next();
    await promise;
    await worker.terminate();
  }
}

const named = (job: Job | null): string => (job === null ? "the end" : job.type === "seed" ? `seed ${job.seed}` : "a scenario");
