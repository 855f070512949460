/** vitest globalSetup of project `edge`: one link peer in this process, for code that runs inside workerd. */
import type { TestProject } from "vitest/node";
import { startLinkPeer } from "./link-peer.ts";

declare module "vitest" {
  interface ProvidedContext {
    link_peer: { url: string; cell_secret: string };
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const peer = await startLinkPeer();
  project.provide("link_peer", { url: peer.url, cell_secret: peer.cell_secret });
  return () => peer.close();
}
