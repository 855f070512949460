/** The link peer as a process: prints `{url, cell_secret}` as one line and lives until its standard input ends. */
import { startLinkPeer } from "./link-peer.ts";

const peer = await startLinkPeer();
process.stdout.write(`${JSON.stringify({ url: peer.url, cell_secret: peer.cell_secret })}\n`);
process.stdin.resume();
process.stdin.on("end", () => void peer.close());
