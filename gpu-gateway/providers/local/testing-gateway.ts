/** A gateway reduced to its provider, in a process of its own, so that it can be killed: `STATE_DIR NODE GPUS ENGINES LEASE_MS`. */
import { asId } from "../../../schema/core/ids.ts";
import { createLocalProvider } from "./local.ts";

const [state_dir = "", node = "", gpus = "", engines = "", lease_ms = ""] = process.argv.slice(2);
const provider = createLocalProvider({ state_dir, node_id: asId<"node">(node), gpus: Number(gpus), engines: JSON.parse(engines) });
const owner = { cell: "cell_killed", epoch: 1, lease_ms: Number(lease_ms) };
await provider.open(owner, (event) => {
  if (event.type === "group" && event.group.state === "ready") console.log("ready");
});
await provider.launch({ group_id: asId<"group">("grp_a"), model: "tiny", role: "both", engine: "tiny", gpus: 1 });
setInterval(() => {
  provider.renew().catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}, owner.lease_ms / 5);
