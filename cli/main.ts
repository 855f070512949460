/** The `millrace` command: one subcommand a file in commands/ and dev/; each takes --json where it prints data. */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import { SCOPES, type Scope } from "../schema/core/wire/token.ts";
import { USAGE_GROUPS, type UsageGroup } from "../schema/core/wire/http.ts";
import { MillraceClientError } from "../sdk/client/index.ts";
import { ApiFault, exitCodeOf, resolveConnection, UsageFault, type ConnectionFlags } from "./connection.ts";
import { DEFAULT_STATE } from "./dev/state.ts";
import { printJson, printLine, table } from "./output.ts";
import { reason } from "./reason.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const program = new Command("millrace")
  .description("Run agents at the edge, batch their inference on your own GPUs, bill every GPU-second exactly once.")
  .version((JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version)
  .showHelpAfterError("(run with --help to see what is possible)");

const port = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 65_535) throw new InvalidArgumentError("a port is 0 to 65535.");
  return value;
};
const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && value < Infinity)) throw new InvalidArgumentError("a number above 0.");
  return value;
};
/** As gpu-gateway/config.ts has it. */
const SPEED_MAX = 10_000;
const speed = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && value <= SPEED_MAX)) throw new InvalidArgumentError(`a number above 0 and at most ${SPEED_MAX}.`);
  return value;
};
const jsonOr = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};
const listOf =
  <T extends string>(allowed: readonly T[]) =>
  (text: string): T[] => {
    const parts = text.split(",").map((part) => part.trim());
    for (const part of parts) if (!allowed.includes(part as T)) throw new InvalidArgumentError(`one or more of ${allowed.join(", ")}.`);
    return parts as T[];
  };

/** A command that talks to a running Millrace. */
const client = (name: string, description: string) =>
  program
    .command(name)
    .description(description)
    .option("--url <url>", "the edge's URL (MILLRACE_URL; else the product running in this folder)")
    .option("--key <key>", "an API key (MILLRACE_KEY; else the development key of this folder)")
    .option("--state <dir>", "the state folder of the running product (MILLRACE_STATE)")
    .option("--json", "print JSON for scripts");
const connect = (flags: ConnectionFlags) => resolveConnection(flags, process.env);

/** A command that runs the product itself. */
const product = (name: string, description: string) =>
  program
    .command(name)
    .description(description)
    .option("--state <dir>", "state folder", process.env["MILLRACE_STATE"] || DEFAULT_STATE)
    .option("--edge-port <port>", "port of the edge (else 8787, or any free one)", port)
    .option("--gateway-port <port>", "port of the gateway (else 8790, or any free one)", port)
    .option("--postgres-port <port>", "port of the embedded Postgres (else any free one)", port)
    .option("--speed <factor>", "how much faster than a real A100 the simulated ones run", speed, 1)
    .option("--no-restart", "leave a dead child dead");

product("dev", "run the whole product here: Postgres, gateway, simulated A100 node, edge, the swarm example").action(async (flags) => {
  const { dev } = await import("./dev/dev.ts");
  process.exitCode = await dev({ root, ...flags, env: process.env });
});

product("demo", "ask the example swarm one question and show what it cost")
  .argument("[question]", "what to ask")
  .option("--json", "print the figures as JSON")
  .action(async (question: string | undefined, flags) => {
    const { demo } = await import("./dev/demo.ts");
    process.exitCode = await demo({ root, ...flags, question, env: process.env });
  });

client("deploy", "bundle a function and deploy it")
  .argument("<file>", "TypeScript or JavaScript with an agent as its default export")
  .option("--name <name>", "the function's name (else the file's)")
  .option("--egress <hosts>", "host names it may fetch, comma-separated", (text: string) => text.split(","))
  .option("--timeout-ms <ms>", "its time limit", positive)
  .option("--alias <alias>", "the alias to move to the new version")
  .addOption(new Option("--isolation <mode>", "share an isolate between runs, or a fresh one each run").choices(["version", "run"]))
  .action(async (file: string, flags) => {
    const { deploy } = await import("./commands/deploy.ts");
    const version = await deploy(connect(flags), file, {
      ...flags,
      ...(flags.timeoutMs === undefined ? {} : { timeout_ms: flags.timeoutMs }),
    });
    if (flags.json) printJson(version);
    else printLine(`${version.name} ${version.version} is ${version.alias}`);
  });

client("invoke", "run a function and print what it returns")
  .argument("<function>")
  .argument("[input]", "JSON, or plain text", "null")
  .option("--stream", "print events as they happen")
  .option("--async", "return the run's id at once")
  .option("--idempotency-key <key>", "the same key twice is one run")
  .option("--function-version <version>", "a version or alias")
  .action(async (name: string, input: string, flags) => {
    const { faultOf, invoke, invokeAsync, invokeStream } = await import("./commands/invoke.ts");
    const options = {
      ...(flags.idempotencyKey === undefined ? {} : { idempotency_key: flags.idempotencyKey as string }),
      ...(flags.functionVersion === undefined ? {} : { version: flags.functionVersion as string }),
    };
    if (flags.stream) {
      for await (const event of invokeStream(connect(flags), name, jsonOr(input), options)) {
        if (flags.json) process.stdout.write(`${JSON.stringify(event)}\n`);
        else if (event.type === "delta") process.stdout.write(event.text);
        else if (event.type === "step") printLine(`\n[${event.status}] ${event.agent ?? ""} ${event.path}`);
        else if (event.type === "run.done") printLine(`\n${JSON.stringify(event.output, null, 2)}`);
        if (event.type === "run.failed") throw faultOf(event);
      }
      return;
    }
    const run = await (flags.async ? invokeAsync : invoke)(connect(flags), name, jsonOr(input), options);
    if (flags.json || flags.async) printJson(run);
    else printJson(run.output);
    if (run.status === "failed") process.exitCode = 1;
  });

client("chat", "hold a session with a function's agent")
  .argument("<function>")
  .option("--session <id>", "go on with a session")
  .option("--message <text>", "send one message, print the answer, and leave")
  .action(async (name: string, flags) => {
    const { chat } = await import("./commands/chat.ts");
    process.exitCode = await chat(connect(flags), name, flags);
  });

client("logs", "print what a run, or a session's turns, logged")
  .argument("<run or session id>")
  .action(async (id: string, flags) => {
    const { logs } = await import("./commands/logs.ts");
    const found = await logs(connect(flags), id);
    if (flags.json) return printJson(found);
    for (const line of found.lines) {
      printLine(`${line.at} ${"turn" in line ? `${line.turn} ` : ""}${line.level.padEnd(5)} ${line.text}`);
    }
    if (found.dropped > 0) printLine(`(${found.dropped} lines beyond the limit were dropped)`);
  });

client("usage", "what was used, by whom, what it cost, and that the sum is what the GPUs cost")
  .option("--by <keys>", `one or two of ${USAGE_GROUPS.join(", ")}`, listOf<UsageGroup>(USAGE_GROUPS), ["function"] as UsageGroup[])
  .option("--from <instant>", "RFC 3339")
  .option("--to <instant>", "RFC 3339")
  .option("--no-settle", "do not ask the gateway to meter up to now first")
  .action(async (flags) => {
    const { reconciles, usage, usageText } = await import("./commands/usage.ts");
    const report = await usage(connect(flags), { group_by: flags.by, from: flags.from, to: flags.to, settle: flags.settle });
    if (flags.json) printJson(report);
    else printLine(usageText(report));
    if (!reconciles(report)) process.exitCode = 3;
  });

const share = (text: string): number => {
  const value = Number(text);
  if (!(value >= 0 && value < 1)) throw new InvalidArgumentError("a share from 0 up to, not including, 1.");
  return value;
};
const whole = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError("a whole number from 0.");
  return value;
};
const atLeastOne = (text: string): number => {
  const value = whole(text);
  if (value === 0) throw new InvalidArgumentError("a whole number from 1.");
  return value;
};

const plan = program
  .command("plan")
  .description("replay a trace against a cluster description: nodes, split, policies, latency, cost, and where it breaks")
  .argument("<trace>", "a trace file, or sharegpt[:calls=…,per_second=…], or agents[:agents=…,turns=…] (generated)")
  .option("--cluster <file>", "the cluster description (examples/clusters/)")
  .option("--slo <objectives>", "as ttft=200ms,tpot=100ms,attainment=0.9")
  .option("--format <format>", "mooncake, azure, sessions or millrace (else seen from the file)")
  .option("--nodes <n or a-b>", "instead of the file's nodes; of a range, the fewest that do")
  .option(
    "--policies <names>",
    "instead of the file's, as routing=conductor,cache=prefix-index; may be repeated",
    (text: string, all: string[] | undefined) => [...(all ?? []), text],
  )
  .option("--rate <factor>", "load ×1 is so many times the trace's own", positive, 1)
  .option("--from-ms <ms>", "the part of the trace from here", whole)
  .option("--to-ms <ms>", "… to here", whole)
  .option("--limit <calls>", "so many calls of it", atLeastOne)
  .option("--skip-malformed", "leave malformed lines out, and count them")
  .option("--users <n>", "sessions at once, of traces of sessions and of agents", atLeastOne)
  .option("--gap-max <seconds>", "longer pauses within sessions are cut to this", positive, 600)
  .addOption(new Option("--goodput <which>", "whose breaking load is searched").choices(["best", "all", "none"]).default("best"))
  .addOption(new Option("--objective <what>", "what the best has most of").choices(["goodput", "goodput_per_gpu"]).default("goodput"))
  .option("--tolerance <share>", "of the search for the breaking load", share, 0.02)
  .option("--warm-up <share>", "of calls, not counted", share, 0.1)
  .option("--patience <seconds>", "a call's deadline", positive, 600)
  .option("--seed <n>", "of generated traces and of policies that draw lots", whole, 1)
  .option("--json", "print JSON for scripts")
  .option("--html <file>", "also write a page with plots")
  .addHelpText(
    "after",
    `
Examples:
  millrace plan calls.jsonl --cluster examples/clusters/ten-nodes-70b.json --slo ttft=2s,tpot=100ms
  millrace plan sharegpt:calls=2000 --cluster examples/clusters/one-node-opt-13b.json --slo ttft=200ms,tpot=100ms,attainment=0.9
  millrace plan mooncake.jsonl.gz --cluster cluster.json --nodes 1-16 --slo ttft=10s,tpot=100ms --html plan.html

Exit codes: 0 the SLO is met, 3 by no configuration tried, 4 the trace is malformed, 130 interrupted (what was known by then is printed).
Formats, and how to read the answer: docs/planning.md`,
  )
  .action(async (trace: string, flags) => {
    const { planCommand } = await import("./commands/plan.ts");
    process.exitCode = await planCommand(trace, flags);
  });
plan
  .command("export")
  .description("our own metered calls as a trace: sizes, instants and names, no prompts (reads DATABASE_URL, else the running product's)")
  .requiredOption("--from <instant>", "RFC 3339")
  .requiredOption("--to <instant>", "RFC 3339")
  .option("--tenant <id>", "only this tenant's")
  .option("--out <file>", "else standard output")
  .option("--state <dir>", "the state folder of the running product (MILLRACE_STATE)")
  .action(async (flags) => {
    const { exportCommand } = await import("./plan/export.ts");
    process.exitCode = await exportCommand(flags, process.env);
  });

const keys = program.command("keys").description("API keys: create, list, revoke");
const keyCommand = (name: string, description: string) =>
  keys
    .command(name)
    .description(description)
    .option("--url <url>")
    .option("--key <key>")
    .option("--state <dir>")
    .option("--json", "print JSON for scripts");
keyCommand("create", "make a key; its secret is shown once")
  .argument("<name>")
  .option("--scopes <scopes>", `of ${SCOPES.join(", ")}`, listOf<Scope>(SCOPES), ["infer", "invoke"] as Scope[])
  .option("--expires <instant>", "RFC 3339")
  .action(async (name: string, flags) => {
    const { createKey } = await import("./commands/keys.ts");
    const key = await createKey(connect(flags), name, flags.scopes, flags.expires);
    if (flags.json) printJson(key);
    else printLine(`${key.secret}\n(${key.key}, ${key.scopes.join(" ")}; it is not shown again)`);
  });
keyCommand("list", "the keys of this project").action(async (flags) => {
  const { listKeys } = await import("./commands/keys.ts");
  const list = await listKeys(connect(flags));
  if (flags.json) return printJson(list);
  printLine(
    table(
      [{ title: "key" }, { title: "name" }, { title: "scopes" }, { title: "created" }, { title: "revoked" }],
      list.keys.map((key) => [key.key, key.name, key.scopes.join(" "), key.created_at, key.revoked_at ?? ""]),
    ),
  );
});
keyCommand("revoke", "revoke a key; running work of it is stopped within 5 s")
  .argument("<key id>")
  .action(async (id: string, flags) => {
    const { revokeKey } = await import("./commands/keys.ts");
    await revokeKey(connect(flags), id);
    if (flags.json) printJson({ key: id, revoked: true });
    else printLine(`${id} is revoked`);
  });

// `millrace usage | head` closes our output early: nobody reads on, so there is nothing more to do. What runs the product goes
// on, or stops in order, without a reader (a closed terminal answers EIO) and without room for its words (a file on a full disk):
// leaving at once would leave its children.
const runs_product = ["dev", "demo"].includes(process.argv[2] ?? "");
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (runs_product) return;
    if (error.code === "EPIPE" || error.code === "EIO") process.exit(0);
    if (stream === process.stdout) process.stderr.write(`millrace: the output cannot be written: ${error.message}\n`);
    process.exit(1);
  });
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof UsageFault) process.stderr.write(`millrace: ${error.message}\n`);
  else if (error instanceof MillraceClientError) {
    const why = error.code === "network" && error.cause instanceof Error ? `: ${reason(error.cause.cause ?? error.cause)}` : "";
    process.stderr.write(`millrace: ${error.code}: ${error.message}${why}\n`);
  } else if (error instanceof ApiFault) process.stderr.write(`millrace: ${error.code}: ${error.message}\n`);
  else throw error;
  const refused = error instanceof ApiFault || error instanceof MillraceClientError;
  process.exitCode = refused ? exitCodeOf(error.status) : 1;
}
