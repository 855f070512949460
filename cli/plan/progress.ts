/** How far a plan is, on stderr: one moving line on a terminal, a line now and then elsewhere. Nothing for plans that end at once. */
import type { Progress } from "../../gpu-gateway/simulator/planner/plan.ts";

const QUIET_MS = 1_000;
const PLAIN_EVERY_MS = 10_000;
const BAR_WIDTH = 20;

type Stream = { readonly isTTY?: boolean; readonly columns?: number; write(text: string): unknown };

export class ProgressLine {
  readonly #stream: Stream;
  readonly #now: () => number;
  readonly #began: number;
  #last_plain: number;
  #shown = false;

  constructor(stream: Stream, now: () => number) {
    this.#stream = stream;
    this.#now = now;
    this.#began = now();
    this.#last_plain = this.#began;
  }

  show(progress: Progress): void {
    const now = this.#now();
    if (now - this.#began < QUIET_MS) return;
    const seconds = ((now - this.#began) / 1_000).toFixed(0);
    if (this.#stream.isTTY) {
      const line = `${bar(progress)} ${textOf(progress)} · ${seconds} s`;
      this.#stream.write(`\r\x1b[2K${line.slice(0, Math.max(20, (this.#stream.columns || 80) - 1))}`);
      this.#shown = true;
    } else if (now - this.#last_plain >= PLAIN_EVERY_MS) {
      this.#last_plain = now;
      this.#stream.write(`millrace: ${textOf(progress)}, ${seconds} s so far\n`);
    }
  }

  clear(): void {
    if (this.#shown) this.#stream.write("\r\x1b[2K");
    this.#shown = false;
  }
}

/** Of the present replay: how many replays a search needs is not known before it ends. */
function bar({ calls_ended, calls }: Progress): string {
  const filled = calls === 0 ? 0 : Math.min(BAR_WIDTH, Math.round((calls_ended / calls) * BAR_WIDTH));
  return `${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}`;
}

const textOf = ({ run, configuration, multiple, calls_ended, calls }: Progress): string =>
  `replay ${run}, ${configuration}, load ×${multiple.toPrecision(3)}: ${calls_ended} of ${calls} calls`;
