/** A thread that does one job after the other. */
import { parentPort } from "node:worker_threads";
import { doJob } from "./job.ts";
import type { Job } from "./messages.ts";

parentPort?.on("message", (job: Job) => parentPort?.postMessage(doJob(job)));
