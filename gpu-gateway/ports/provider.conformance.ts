/**
 * What every provider does, whatever places its processes. A provider's test brings a harness; a test of something that the
 * platform beneath cannot do (SIGKILL its agent) is skipped by name.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { asId } from "../../schema/core/ids.ts";
import { until } from "../../test/support/until.ts";
import type { GroupSpec, Provider, ProviderEvent, RunningGroup } from "./provider.ts";
import { Fenced } from "./provider.ts";

/** A place with one node of `gpus` GPUs (at least 2) that nobody holds yet. */
export interface ProviderHarness {
  readonly gpus: number;
  readonly engine: string;
  readonly model: string;
  /** Each call is another gateway's provider over the same place. */
  create(): Provider;
  /** SIGKILL, with no word to anyone. */
  killEngine(group: RunningGroup): void;
  /** SIGKILL for what keeps the node; null where there is no such thing. */
  readonly killAgent: (() => Promise<void>) | null;
  /** Of this place, started by whomever, asked of the platform and not of the provider. */
  enginesRunning(): number;
  agentsRunning(): number;
  close(): Promise<void>;
}

const CELL = "cell_conformance";
/** Longer than any test: such a lease does not run out in it. */
const LONG_LEASE_MS = 60_000;
const SHORT_LEASE_MS = 500;

export function describeProvider(name: string, make: () => Promise<ProviderHarness>, can: { readonly kill_agent: boolean }): void {
  describe(`provider ${name}`, () => {
    let harness: ProviderHarness;
    const open = new Set<Provider>();
    beforeEach(async () => {
      harness = await make();
    });
    afterEach(async () => {
      for (const provider of open) await provider.close();
      open.clear();
      await harness.close();
    });

    async function claim(epoch: number, lease_ms = LONG_LEASE_MS, cell = CELL) {
      const events: ProviderEvent[] = [];
      const provider = harness.create();
      const adopted = await provider.open({ cell, epoch, lease_ms }, (event) => events.push(event));
      open.add(provider);
      return { provider, events, adopted, told: (type: ProviderEvent["type"]) => events.filter((event) => event.type === type) };
    }
    type Claimed = Awaited<ReturnType<typeof claim>>;

    const spec = (group: string, gpus = 1): GroupSpec => ({
      group_id: asId<"group">(group),
      model: harness.model,
      role: "both",
      engine: harness.engine,
      gpus,
    });
    async function launch({ provider }: Claimed, group: string, gpus = 1): Promise<RunningGroup> {
      const outcome = await provider.launch(spec(group, gpus));
      if (outcome.type === "refused") throw new Error(outcome.reason);
      return outcome.group;
    }
    const isReady = ({ events }: Claimed, id: string) =>
      events.flatMap((event) =>
        event.type === "group" && event.group.group_id === id && event.group.state === "ready" ? [event.group] : [],
      )[0];
    const ready = (from: Claimed, id: string): Promise<RunningGroup> => until(`${id} ready`, () => isReady(from, id));
    const ends = ({ events }: Claimed, id: string) =>
      events
        .filter((event) => (event.type === "group_lost" || event.type === "group_stopped") && event.group_id === id)
        .map((event) => event.type);
    async function launchReady(from: Claimed, id: string, gpus = 1): Promise<RunningGroup> {
      await launch(from, id, gpus);
      return ready(from, id);
    }
    async function isHealthy(group: RunningGroup): Promise<boolean> {
      const [instance] = group.instances;
      return (await fetch(`${instance?.url ?? ""}/health`)).status === 200;
    }

    test("a launched group gets ready, on the lowest free GPUs", async () => {
      const gateway = await claim(1);
      expect(gateway.adopted).toEqual([]);
      const launched = await launch(gateway, "grp_a");
      expect(launched).toMatchObject({ group_id: "grp_a", state: "loading", gpu_indices: [0], epoch: 1, model: harness.model });
      const group = await ready(gateway, "grp_a");
      expect(await isHealthy(group)).toBe(true);
      expect((await launch(gateway, "grp_b")).gpu_indices).toEqual([1]);
      expect(gateway.told("provision")).toHaveLength(1);
    });

    test("the provision comes before anything else, and covers the node's GPUs", async () => {
      const { events, provider } = await claim(1);
      const [first] = events;
      if (first?.type !== "provision") throw new Error("no provision");
      expect(first.provision).toMatchObject({ gpus: harness.gpus, released_at: null });
      const [node] = await provider.renew();
      expect(node?.node_id).toBe(first.provision.node_id);
      expect(node?.confirmed_at).toBeGreaterThan(first.provision.provisioned_at);
    });

    test("a later gateway adopts what runs and starts nothing twice", async () => {
      const first = await claim(1);
      const group = await launchReady(first, "grp_a");
      await first.provider.close();
      const second = await claim(2);
      expect(second.adopted).toMatchObject([{ group_id: "grp_a", state: "ready", instances: group.instances }]);
      expect(await launch(second, "grp_a")).toMatchObject({ gpu_indices: group.gpu_indices, instances: group.instances });
      expect(harness.enginesRunning()).toBe(1);
      expect(harness.agentsRunning()).toBe(1);
      expect(second.told("provision")).toEqual(first.told("provision"));
    });

    test("a gateway that adopts a loading group hears that it got ready", async () => {
      const first = await claim(1);
      await launch(first, "grp_a");
      await first.provider.close();
      const second = await claim(2);
      const [adopted] = second.adopted;
      if (adopted?.state !== "ready") await ready(second, "grp_a");
      expect(harness.enginesRunning()).toBe(1);
    });

    test("stop is idempotent and gives the GPUs back", async () => {
      const gateway = await claim(1);
      await launchReady(gateway, "grp_a", harness.gpus);
      expect((await gateway.provider.launch(spec("grp_b"))).type).toBe("refused");
      await Promise.all([gateway.provider.stop(asId<"group">("grp_a")), gateway.provider.stop(asId<"group">("grp_a"))]);
      await until("group_stopped", () => ends(gateway, "grp_a").length > 0);
      expect(harness.enginesRunning()).toBe(0);
      await gateway.provider.stop(asId<"group">("grp_a"));
      await gateway.provider.stop(asId<"group">("grp_never"));
      await launchReady(gateway, "grp_b", harness.gpus);
      expect(ends(gateway, "grp_a")).toEqual(["group_stopped"]);
    });

    test("a group that is stopped while it loads is stopped", async () => {
      const gateway = await claim(1);
      await launch(gateway, "grp_a");
      await gateway.provider.stop(asId<"group">("grp_a"));
      await until("its end", () => ends(gateway, "grp_a").length > 0);
      expect(ends(gateway, "grp_a")).toEqual(["group_stopped"]);
      expect(harness.enginesRunning()).toBe(0);
    });

    test("an engine that dies is reported lost, once, and its GPUs are free again", async () => {
      const gateway = await claim(1);
      const group = await launchReady(gateway, "grp_a", harness.gpus);
      harness.killEngine(group);
      await until("group_lost", () => ends(gateway, "grp_a").length > 0);
      const retaken = await until("the GPUs to be free", async () => {
        const outcome = await gateway.provider.launch(spec("grp_b", harness.gpus));
        return outcome.type === "launching" && outcome.group;
      });
      await ready(gateway, retaken.group_id);
      await gateway.provider.stop(asId<"group">("grp_a"));
      expect(ends(gateway, "grp_a")).toEqual(["group_lost"]);
    });

    test("more GPUs than are free, or an engine that nobody knows, is refused and starts nothing", async () => {
      const { provider } = await claim(1);
      expect((await provider.launch(spec("grp_a", harness.gpus + 1))).type).toBe("refused");
      expect((await provider.launch({ ...spec("grp_a"), engine: "no-such-engine" })).type).toBe("refused");
      expect(harness.enginesRunning()).toBe(0);
    });

    test("an old epoch commands nothing (I13)", async () => {
      const old = await claim(1);
      await launchReady(old, "grp_a");
      const current = await claim(2);
      expect((await old.provider.launch(spec("grp_b"))).type).toBe("refused");
      await expect(old.provider.renew()).rejects.toThrow(Fenced);
      await expect(old.provider.stop(asId<"group">("grp_a"))).rejects.toThrow(Fenced);
      await expect(old.provider.release()).rejects.toThrow(Fenced);
      await expect(claim(1)).rejects.toMatchObject({ name: "Fenced", current_epoch: 2 });
      expect(harness.enginesRunning()).toBe(1);
      expect(await current.provider.renew()).toHaveLength(1);
    });

    test("another cell is refused while the lease lives", async () => {
      const holder = await claim(1);
      await expect(claim(9, LONG_LEASE_MS, "cell_other")).rejects.toThrow(Fenced);
      expect(await holder.provider.renew()).toHaveLength(1);
    });

    /** A ready group, then adopted under a lease that nobody renews: no test depends on how long an engine loads. */
    async function soonExpired() {
      const first = await claim(1);
      await launchReady(first, "grp_a");
      const [confirmed] = await first.provider.renew();
      await first.provider.close();
      const last = await claim(2, SHORT_LEASE_MS);
      await until("the node to be given back", () => harness.enginesRunning() === 0 && harness.agentsRunning() === 0);
      return { last, confirmed_at: confirmed?.confirmed_at ?? 0n };
    }
    const provisionsOf = ({ events }: Claimed) => events.flatMap((event) => (event.type === "provision" ? [event.provision] : []));

    test("a lease that runs out stops all, and closes the provision when the engines are gone", async () => {
      const { confirmed_at } = await soonExpired();
      const next = await claim(2);
      expect(next.adopted).toEqual([]);
      const [closed, fresh] = provisionsOf(next);
      expect(closed?.released_at).toBeGreaterThan(confirmed_at);
      expect(fresh?.released_at).toBeNull();
      expect(fresh?.provisioned_at).toBeGreaterThan(closed?.released_at ?? 0n);
    });

    test("a gateway that renews after its lease ran out hears of the loss and of both provisions", async () => {
      const { last } = await soonExpired();
      await until("a renewal", async () => (await last.provider.renew()).length > 0);
      expect(ends(last, "grp_a")).toHaveLength(1);
      const [opened, closed, fresh] = provisionsOf(last);
      expect([opened?.released_at, fresh?.released_at]).toEqual([null, null]);
      expect(closed?.released_at).toBeGreaterThan(0n);
      expect(closed?.provision_id).toBe(opened?.provision_id);
      expect(fresh?.provision_id).not.toBe(opened?.provision_id);
    });

    test("release stops all, closes the provision after everything that was confirmed, and leaves no process", async () => {
      const gateway = await claim(1);
      for (const id of ["grp_a", "grp_b"]) await launchReady(gateway, id);
      const [confirmed] = await gateway.provider.renew();
      const released = await gateway.provider.release();
      expect(released).toHaveLength(1);
      expect(released[0]?.released_at).toBeGreaterThan(confirmed?.confirmed_at ?? 0n);
      expect(harness.enginesRunning()).toBe(0);
      expect(harness.agentsRunning()).toBe(0);
      expect(["grp_a", "grp_b"].map((id) => ends(gateway, id))).toEqual([["group_stopped"], ["group_stopped"]]);
      expect(await gateway.provider.release()).toEqual([]);
      expect(await gateway.provider.renew()).toEqual([]);
    });

    test("a closed provider is silent and leaves everything as it is", async () => {
      const gateway = await claim(1);
      const group = await launchReady(gateway, "grp_a");
      await gateway.provider.close();
      const told = gateway.events.length;
      const next = await claim(1);
      harness.killEngine(group);
      await until("the next gateway hears of it", () => ends(next, "grp_a").length > 0);
      expect(gateway.events).toHaveLength(told);
      expect((await gateway.provider.launch(spec("grp_b"))).type).toBe("refused");
    });

    test.skipIf(!can.kill_agent)("an agent that was SIGKILLed is started again: its groups are lost, its provision goes on", async () => {
      const gateway = await claim(1);
      await launchReady(gateway, "grp_a");
      const [before] = await gateway.provider.renew();
      await harness.killAgent?.();
      await until("node_unreachable", () => gateway.told("node_unreachable").length > 0);
      const [after] = await gateway.provider.renew();
      expect(after?.confirmed_at).toBeGreaterThan(before?.confirmed_at ?? 0n);
      expect(ends(gateway, "grp_a")).toEqual(["group_lost"]);
      expect(harness.enginesRunning()).toBe(0);
      expect(gateway.told("provision")).toHaveLength(1);
      await launchReady(gateway, "grp_b");
      const [released] = await gateway.provider.release();
      const [provision] = gateway.told("provision");
      expect(released?.provision_id).toBe(provision?.type === "provision" && provision.provision.provision_id);
    });

    test.skipIf(!can.kill_agent)("a restarted agent still refuses the old epoch (I13)", async () => {
      const current = await claim(7);
      await harness.killAgent?.();
      await current.provider.close();
      await expect(claim(6)).rejects.toMatchObject({ name: "Fenced", current_epoch: 7 });
      await expect(claim(8, LONG_LEASE_MS, "cell_other")).rejects.toThrow(Fenced);
      expect((await claim(7)).told("provision")).toEqual(current.told("provision"));
    });

    test.skipIf(!can.kill_agent)("release after the agent was SIGKILLed closes the provision it had open", async () => {
      const gateway = await claim(1);
      await launchReady(gateway, "grp_a");
      await harness.killAgent?.();
      const [released] = await gateway.provider.release();
      const [provision] = gateway.told("provision");
      expect(released?.provision_id).toBe(provision?.type === "provision" && provision.provision.provision_id);
      expect(ends(gateway, "grp_a")).toHaveLength(1);
      expect(harness.enginesRunning() + harness.agentsRunning()).toBe(0);
    });
  });
}
