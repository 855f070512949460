/** GET /admin/state: what this gateway holds and does now, for operators and for `millrace top`. */
import type { Doors } from "./doors.ts";

export function adminState(doors: Doors) {
  const { runtime, cell, epoch } = doors;
  const { calls, queues, legs, holding, reservations, pools, instances } = doors.snapshot();
  const groups = runtime.fleet.groups().map(({ running, phase, condemned }) => ({
    group: running.group_id,
    node: running.node_id,
    model: running.model,
    role: running.role,
    engine: running.engine,
    gpu_indices: running.gpu_indices,
    phase,
    condemned,
  }));
  return {
    cell,
    epoch,
    phase: runtime.phase,
    calls,
    queues,
    legs,
    holding,
    reservations,
    pools,
    instances,
    groups,
    decisions: doors.decisions(),
  };
}
