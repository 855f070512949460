import { expect, test } from "vitest";
import { engineCatalogue, fill } from "./catalogue.ts";

const VALUES = { port: "8001", model: "meta/llama; rm -rf {role}", role: "decode", gpu_indices: "2,3", gpus: "2", group_id: "grp_a" };

test("a template is filled wherever it stands; an argument stays one argument and is not filled twice", () => {
  const { tiny } = engineCatalogue.parse({
    tiny: { command: ["run", "--port={port}", "{model}", "{gpu_indices}/{gpus}"], env: { ROLE: "{role}" } },
  });
  if (tiny === undefined) throw new Error("parsed away");
  expect(fill(tiny, VALUES)).toEqual({
    command: "run",
    args: ["--port=8001", "meta/llama; rm -rf {role}", "2,3/2"],
    env: { ROLE: "decode" },
  });
  expect(tiny).toMatchObject({ ready: "/health", stop_ms: 5_000 });
});

test("a template that nobody can fill, and an engine without a command, are faults of the configuration, told together", () => {
  const { error } = engineCatalogue.safeParse({
    a: { command: ["x", "{prot}"] },
    b: { command: [] },
    c: { command: ["x"], ready: "health" },
  });
  expect(error?.issues.map(({ path }) => path.join("."))).toEqual(["a.command.1", "b.command", "c.ready"]);
  expect(error?.issues[0]?.message).toContain("{prot} is not known; there are {port}");
});
