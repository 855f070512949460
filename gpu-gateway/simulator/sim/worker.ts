/** A thread that does one job after the other. */
import { parentPort } from "node:worker_threads";
import { doJob } from "./job.ts";
import type { Job } from "./messages.ts";

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
parentPort?.on("message", (job: Job) => parentPort?.postMessage(doJob(job)));
