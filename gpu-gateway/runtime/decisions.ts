/**
 * Records what the scheduler is told and what it decides (policy/recording.ts), for simulator/replay/. Off unless it is asked for.
 *
 *   on ── stopped | fenced (closed) | limit | overrun (footer says so) | failed (the disk: no footer)
 *
 * What is decided is kept by reference, which costs the hot path a push; it is made into lines, hashed and handed to the disk when the event
 * loop has done what it had to do, after DECISIONS_PENDING_MAX events at the latest. Writing is one append at a time. The gateway never waits
 * for it: at each limit the recording ends and the gateway serves on. A file of that name from before is kept as FILE.before.
 */
import { createHash } from "node:crypto";
import { open, rename, type FileHandle } from "node:fs/promises";
import type { PolicyChoice } from "../policy/catalogue.ts";
import {
  type Decision,
  DECISIONS_FORMAT,
  DECISIONS_VERSION,
  type DecisionsEnd,
  type DecisionsFooter,
  type DecisionsHeader,
  digested,
} from "../policy/recording.ts";
import type { Scheduler } from "../policy/scheduler.ts";
import { DECISIONS_BYTES_MAX, DECISIONS_PENDING_MAX, DECISIONS_UNWRITTEN_BYTES_MAX } from "./limits.ts";

export type RecorderOptions = {
  readonly file: string;
  readonly policies: PolicyChoice;
  readonly bytes_max?: number;
  readonly unwritten_bytes_max?: number;
  readonly log: (line: string, fields?: Readonly<Record<string, unknown>>) => void;
};
type Decider = Pick<Scheduler, "handle">;
/** `digest`: of all that was recorded until now. */
export type RecorderState = { readonly recording: "on" | DecisionsEnd | "failed"; readonly events: number; readonly digest: string };

export class DecisionRecorder {
  readonly #options: RecorderOptions;
  readonly #handle: FileHandle;
  readonly #hash = createHash("sha256");
  readonly #pending: Decision[] = [];
  #soon: NodeJS.Immediate | null = null;
  #unwritten: string[] = [];
  /** Made into lines and not yet on their way to the disk, or being written. */
  #unwritten_bytes = 0;
  #bytes = 0;
  #events = 0;
  #recording: RecorderState["recording"] = "on";
  #writing: Promise<void> | null = null;

  private constructor(options: RecorderOptions, handle: FileHandle) {
    this.#options = options;
    this.#handle = handle;
  }

  /** Rejects with what the file system says. */
  static async open(options: RecorderOptions): Promise<DecisionRecorder> {
    const { file, policies } = options;
    await rename(file, `${file}.before`).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    });
    const recorder = new DecisionRecorder(options, await open(file, "wx", 0o600));
    const header: DecisionsHeader = { format: DECISIONS_FORMAT, version: DECISIONS_VERSION, policies };
    recorder.#line(JSON.stringify(header));
    return recorder;
  }

  /** The same scheduler, listened to. */
  around(scheduler: Decider): Decider {
    return {
      handle: (event, now) => {
        const effects = scheduler.handle(event, now);
        if (this.#recording === "on") this.#add({ at: now, event, effects });
        return effects;
      },
    };
  }

  state(): RecorderState {
    this.#takePending();
    return { recording: this.#recording, events: this.#events, digest: this.#hash.copy().digest("hex") };
  }

  /** Resolves when all is written, or cannot be. */
  async close(end: "stopped" | "fenced"): Promise<void> {
    this.#takePending();
    this.#end(end);
    await this.#writing;
    await this.#handle.close().catch(() => undefined);
  }

  #add(decision: Decision): void {
    this.#pending.push(decision);
    if (this.#pending.length >= DECISIONS_PENDING_MAX) this.#takePending();
    else this.#soon ??= setImmediate(() => this.#takePending());
  }

  #takePending(): void {
    if (this.#soon !== null) clearImmediate(this.#soon);
    this.#soon = null;
    const { bytes_max = DECISIONS_BYTES_MAX, unwritten_bytes_max = DECISIONS_UNWRITTEN_BYTES_MAX } = this.#options;
    for (const { at, event, effects } of this.#pending.splice(0)) {
      if (this.#recording !== "on") return;
      const said = JSON.stringify(effects);
      const line = `{"at":${at},"event":${JSON.stringify(event)},"effects":${said}}`;
      if (this.#bytes + line.length > bytes_max) return this.#end("limit");
      if (this.#unwritten_bytes + line.length > unwritten_bytes_max) return this.#end("overrun");
      this.#hash.update(digested(said));
      this.#events += 1;
      this.#line(line);
    }
  }

  #end(end: DecisionsEnd): void {
    if (this.#recording !== "on") return;
    this.#recording = end;
    const { events, digest } = this.state();
    const footer: DecisionsFooter = { end, events, digest };
    this.#line(JSON.stringify(footer));
    if (end !== "stopped") this.#options.log("decisions are no longer recorded", { end, events, file: this.#options.file });
  }

  /** Lengths are counted in UTF-16 units: ids, models and reasons are nearly all ASCII. */
  #line(text: string): void {
    this.#unwritten.push(text, "\n");
    this.#bytes += text.length + 1;
    this.#unwritten_bytes += text.length + 1;
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    try {
      while (this.#unwritten.length > 0) {
        const text = this.#unwritten.join("");
        this.#unwritten = [];
        await this.#handle.appendFile(text);
        this.#unwritten_bytes -= text.length;
      }
    } catch (error) {
      this.#recording = "failed";
      this.#unwritten = [];
      this.#options.log("decisions are no longer recorded", { end: "failed", error: String(error), file: this.#options.file });
    }
    this.#writing = null;
  }
}
