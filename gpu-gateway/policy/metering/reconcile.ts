/**
 * Metered = provisioned? Summed from the rows and the nodes' own statements alone; shares nothing with the fold, so that it can
 * find the fold wrong. `from` and `through` should lie on UTC minutes or cuts, which no row crosses; a row that does is named.
 */
type Row = {
  readonly id: string;
  readonly kind: string;
  readonly from_ns: string;
  readonly to_ns: string;
  readonly quantity: string;
  readonly node?: string | undefined;
  readonly cost_centre?: string | undefined;
  readonly leg_state?: string | undefined;
};
type Statement = { readonly node_id: string; readonly gpus: number; readonly provisioned_at: bigint; readonly released_at: bigint | null };

export type NodeReconciliation = {
  readonly provisioned_gpu_ns: bigint;
  readonly metered_gpu_ns: bigint;
  readonly difference_gpu_ns: bigint;
};
export type Reconciliation = NodeReconciliation & {
  readonly nodes: ReadonlyMap<string, NodeReconciliation>;
  /** By cost centre, and legs by their state. */
  readonly by_use: ReadonlyMap<string, bigint>;
  /** Rows that begin or end outside while they touch the inside; not summed. */
  readonly straddling: readonly string[];
};

export function reconcile(provisions: Iterable<Statement>, usage: Iterable<Row>, from: bigint, through: bigint): Reconciliation {
  const provisioned = new Map<string, bigint>();
  for (const { node_id, gpus, provisioned_at, released_at } of provisions) {
    const begin = provisioned_at > from ? provisioned_at : from;
    const end = released_at !== null && released_at < through ? released_at : through;
    add(provisioned, node_id, end > begin ? BigInt(gpus) * (end - begin) : 0n);
  }
  const metered = new Map<string, bigint>();
  const by_use = new Map<string, bigint>();
  const straddling: string[] = [];
  for (const row of usage) {
    if (row.kind !== "gpu_time") continue;
    const begin = BigInt(row.from_ns);
    const end = BigInt(row.to_ns);
    if (end <= from || begin >= through) continue;
    if (begin < from || end > through) {
      straddling.push(row.id);
      continue;
    }
    add(metered, row.node ?? "", BigInt(row.quantity));
    add(by_use, row.cost_centre ?? row.leg_state ?? "", BigInt(row.quantity));
  }
  const nodes = new Map<string, NodeReconciliation>();
  for (const node of [...new Set([...provisioned.keys(), ...metered.keys()])].sort()) {
    nodes.set(node, compared(provisioned.get(node) ?? 0n, metered.get(node) ?? 0n));
  }
  return { ...compared(total(provisioned), total(metered)), nodes, by_use, straddling };
}

const compared = (provisioned_gpu_ns: bigint, metered_gpu_ns: bigint): NodeReconciliation => ({
  provisioned_gpu_ns,
  metered_gpu_ns,
  difference_gpu_ns: metered_gpu_ns - provisioned_gpu_ns,
});
const add = (sums: Map<string, bigint>, key: string, value: bigint): void => void sums.set(key, (sums.get(key) ?? 0n) + value);
const total = (sums: ReadonlyMap<string, bigint>): bigint => [...sums.values()].reduce((sum, value) => sum + value, 0n);
