/**
 * Drives the KV transfers of one instance in real time. Each side of a transfer knows its own GPUs and those of the other, and shares its own
 * links among all that it has under way: a transfer is over when it is over at both ends. What passes between two other instances
 * it does not know of. All instances are taken to be GPUs of one node.
 */
import { cyrb53 } from "../../engine-model/block-hash.ts";
import { A100_FABRIC, TransferModel } from "../../engine-model/transfer.ts";
import type { Endpoint } from "../../engine-model/transfer.ts";

/** An instance as the other side names it. */
export type Party = { readonly engine_id: string; readonly gpus: number };
export type TransferOutcome = "over" | "cancelled" | "refused";

const GPUS_MAX = 64;
const ENGINES_MAX = 2 ** 40;

export class Transfers {
  readonly #model = new TransferModel(A100_FABRIC);
  readonly #now: () => number;
  readonly #real_ms: (model_us: number) => number;
  readonly #waiting = new Map<string, (outcome: TransferOutcome) => void>(); // as many as the model has transfers
  readonly #begun = new Map<string, Promise<TransferOutcome>>();
  #timer: NodeJS.Timeout | null = null;

  /** `now` in microseconds of model time, which a real time is `real_ms` of. */
  constructor(now: () => number, real_ms: (model_us: number) => number) {
    this.#now = now;
    this.#real_ms = real_ms;
  }

  /** Resolves when the bytes have passed this side's links. */
  begin(id: string, from: Party, to: Party, bytes: number): Promise<TransferOutcome> {
    const begun = this.#model.begin(id, endpoint(from), endpoint(to), bytes, this.#now());
    if (begun.type === "refused") return Promise.resolve("refused");
    const over = new Promise<TransferOutcome>((resolve) => this.#waiting.set(id, resolve));
    this.#begun.set(id, over);
    this.#arm();
    return over;
  }

  /** Resolves when a transfer is over that has begun; at once when there is none. */
  over(id: string): Promise<TransferOutcome> {
    return this.#begun.get(id) ?? Promise.resolve("over");
  }

  cancel(id: string): void {
    if (!this.#model.cancel(id, this.#now())) return;
    this.#end(id, "cancelled");
    this.#arm();
  }

  close(): void {
    for (const id of this.#waiting.keys()) this.cancel(id);
  }

  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const at = this.#model.wake();
    this.#timer = at === null ? null : setTimeout(() => this.#wake(), Math.max(0, this.#real_ms(at - this.#now())));
  }

  #wake(): void {
    for (const id of this.#model.advance(this.#now())) this.#end(id, "over");
    this.#arm();
  }

  #end(id: string, outcome: TransferOutcome): void {
    this.#waiting.get(id)?.(outcome);
    this.#waiting.delete(id);
    this.#begun.delete(id);
  }
}

/** GPUs of an instance get numbers that no other's are likely to have. */
function endpoint({ engine_id, gpus }: Party): Endpoint {
  const first = (cyrb53(engine_id, 0) % ENGINES_MAX) * GPUS_MAX;
  return Array.from({ length: Math.min(Math.max(1, gpus), GPUS_MAX) }, (_, i) => ({ node: 0, gpu: first + i }));
}
