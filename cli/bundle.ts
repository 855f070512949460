/** A function's source becomes one ES module: esbuild bundles what it imports; `millrace` stays, the isolate provides it. */
import { basename } from "node:path";
import { build } from "esbuild";
import { CODE_BYTES_MAX } from "../schema/core/wire/limits.ts";
import { UsageFault } from "./connection.ts";

export async function bundle(file: string): Promise<string> {
  const built = await build({
    entryPoints: [file],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2024",
    platform: "neutral",
    external: ["millrace", "cloudflare:*", "node:async_hooks"],
    charset: "utf8",
    logLevel: "silent",
  }).catch((error: unknown) => {
    const first = (error as { errors?: { text: string; location: { file: string; line: number; column: number } | null }[] }).errors?.[0];
    if (!first) throw error;
    const at = first.location ? ` (${first.location.file}:${first.location.line}:${first.location.column})` : "";
    throw new UsageFault(`${basename(file)} cannot be bundled: ${first.text}${at}`);
  });
  const code = built.outputFiles[0]?.text ?? "";
  const bytes = Buffer.byteLength(code);
  if (bytes > CODE_BYTES_MAX) throw new UsageFault(`${basename(file)} is ${bytes} bytes when bundled; the limit is ${CODE_BYTES_MAX}.`);
  return code;
}
