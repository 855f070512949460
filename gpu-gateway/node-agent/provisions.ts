/**
 * The node's durable record of when its GPUs were provisioned (I1): `provisions.jsonl`, one line for each opening and each
 * closing, flushed before anyone is told. Metering is reconciled against this and nothing else, so it is never rewritten.
 * A last line without its end was never told to anyone: it is cut off at start. Any other damage is an error to look at.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import type { NodeId } from "../../schema/core/ids.ts";
import { asId } from "../../schema/core/ids.ts";
import type { Nanos } from "../../schema/core/time.ts";
import { nanos } from "../../schema/core/time.ts";
import type { Provision } from "../ports/provider.ts";
import { flushFolder } from "./durable.ts";
import { PROVISIONS_REPORTED_MAX } from "./limits.ts";

const instant = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform((digits) => nanos(BigInt(digits)));
const line = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("opened"),
    provision_id: z.string(),
    node_id: z.string().transform((value) => asId<"node">(value)),
    gpus: z.int().positive(),
    provisioned_at: instant,
  }),
  z.object({ type: z.literal("closed"), provision_id: z.string(), released_at: instant, reason: z.string() }),
]);

export class ProvisionRecord {
  readonly #fd: number;
  readonly #reported_by: string;
  readonly #recent: Provision[] = [];
  #open: Provision | null = null;
  #last_instant: Nanos = nanos(0n);

  constructor(path: string, reported_by: string) {
    this.#reported_by = reported_by;
    this.#fd = openSync(path, "a", 0o600);
    flushFolder(dirname(path));
    const content = readFileSync(path);
    const whole = content.lastIndexOf(0x0a) + 1;
    if (whole < content.length) ftruncateSync(this.#fd, whole);
    for (const text of content.toString("utf8", 0, whole).split("\n")) if (text !== "") this.#replay(text);
  }

  get open(): Provision | null {
    return this.#open;
  }

  get last_instant(): Nanos {
    return this.#last_instant;
  }

  /** The newest, oldest first; the open one is the last. */
  recent(): readonly Provision[] {
    return this.#open === null ? [...this.#recent] : [...this.#recent, this.#open];
  }

  begin(provision_id: string, node_id: NodeId, gpus: number, at: Nanos): Provision {
    if (this.#open !== null) throw new Error(`provision ${this.#open.provision_id} is open`);
    this.#append({ type: "opened", provision_id, node_id, gpus, provisioned_at: at.toString() });
    return this.#opened(provision_id, node_id, gpus, at);
  }

  end(at: Nanos, reason: string): Provision {
    if (this.#open === null) throw new Error("no provision is open");
    this.#append({ type: "closed", provision_id: this.#open.provision_id, released_at: at.toString(), reason });
    return this.#closed(this.#open, at);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #replay(text: string): void {
    const entry = line.parse(JSON.parse(text));
    if (entry.type === "opened") this.#opened(entry.provision_id, entry.node_id, entry.gpus, entry.provisioned_at);
    else if (this.#open?.provision_id === entry.provision_id) this.#closed(this.#open, entry.released_at);
    else throw new Error(`provision ${entry.provision_id} is closed but was not open`);
  }

  #opened(provision_id: string, node_id: NodeId, gpus: number, at: Nanos): Provision {
    this.#last_instant = at;
    this.#open = { provision_id, node_id, gpus, provisioned_at: at, released_at: null, reported_by: this.#reported_by };
    return this.#open;
  }

  #closed(open: Provision, at: Nanos): Provision {
    const provision = { ...open, released_at: at };
    this.#last_instant = at;
    this.#open = null;
    this.#recent.push(provision);
    if (this.#recent.length >= PROVISIONS_REPORTED_MAX) this.#recent.shift();
    return provision;
  }

  #append(entry: object): void {
    writeSync(this.#fd, `${JSON.stringify(entry)}\n`);
    fsyncSync(this.#fd);
  }
}
