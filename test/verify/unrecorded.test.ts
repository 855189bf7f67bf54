import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Folder, MemoryFolder } from "../../src/checkpoints/files.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { HalfstepError } from "../../src/errors.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { halfstep } from "../support/cli.ts";
import { fixture } from "../support/golden.ts";
import { changed, temporaryFolder } from "../support/models.ts";
import { writeVideoPipeline } from "../support/video-pipelines.ts";

/** A fixture without what a reference left. */
async function alone(name: string): Promise<NodeFolder> {
  const path = join(await temporaryFolder(), name.replaceAll("/", "-"));
  await cp(fixture(name).path, path, { recursive: true });
  for (const file of await readdir(path)) {
    if (/^(call|io)(\.\w+)?\.(json|safetensors)$/.test(file)) await rm(join(path, file));
  }
  return new NodeFolder(path);
}

const verify = (folder: Folder) => verifyFolder(folder, nodeRuntime, { threads: 1 });

describe("a folder without reference tensors", () => {
  it.each(["dit", "pixart-alpha", "pixart-sigma", "t5", "clip", "clip-text", "clip-vision", "vae", "vae-temporal"])(
    "%s: names, shapes, finite values and one run are checked, and it says so",
    async (name) => {
      const result = await verify(await alone(name));
      expect(result).toMatchObject({ pass: true, outputs: [] });
      // As many tensors as the file's own header lists
      const weights = join(
        fixture(name).path,
        (await readdir(fixture(name).path)).find((file) => /model.*\.safetensors$/.test(file))!,
      );
      const bytes = await readFile(weights);
      const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString()) as object;
      const tensors = Object.keys(header).filter((key) => key !== "__metadata__").length;
      expect(result.checks![0]).toMatch(new RegExp(`^${tensors} tensors `));
      expect(result.checks!.slice(1).every((check) => /^one run with random .* gives finite /.test(check))).toBe(true);
      expect(result.checks!.length).toBeGreaterThan(1);
    },
  );

  it("a pipeline: each component", async () => {
    const { checks } = await verify(await alone("pipelines/dit"));
    expect(checks!.map((check) => check.split(":")[0])).toEqual(
      expect.arrayContaining(["transformer", "vae", "scheduler"]),
    );
    expect(checks).toContainEqual(expect.stringMatching(/^scheduler: \w+Scheduler plans 10 steps of finite values$/));
  });

  it.each(["animatediff", "svd"] as const)("a pipeline for videos: %s", async (name) => {
    const folder = await writeVideoPipeline(name);
    for (const file of ["call.json", "io.safetensors"]) await rm(join(folder.path, file), { force: true });
    const { checks } = await verify(folder);
    const runs = checks!.filter((check) => /one run with random/.test(check)).map((check) => check.split(":")[0]);
    expect(runs).toEqual(expect.arrayContaining(["unet", "vae"]));
  });

  it("a result that is not finite fails, which weights alone do not show", async () => {
    const folder = await changed("dit", {
      weights: (found) => {
        (found.get("proj_out_2.bias")!.data as Float32Array).fill(3e38);
        (found.get("proj_out_2.weight")!.data as Float32Array).fill(3e38);
      },
    });
    await rm(join(folder.path, "io.safetensors"));
    await expect(verify(folder)).rejects.toThrow(/NumericError|has (-?Infinity|NaN) at index \d+, from random input/);
  });

  it("a tensor of another shape fails", async () => {
    const folder = await changed("dit", { weights: (found) => found.set("proj_out_2.bias", floatTensor([3])) });
    await rm(join(folder.path, "io.safetensors"));
    await expect(verify(folder)).rejects.toThrow(/proj_out_2.bias/);
  });
});

/** A folder with some of its JSON changed. */
async function withJson(
  name: string,
  file: string,
  change: (json: Record<string, unknown>) => unknown,
): Promise<Folder> {
  const path = join(await temporaryFolder(), "case");
  await cp(fixture(name).path, path, { recursive: true });
  const json = JSON.parse(await readFile(join(path, file), "utf8")) as Record<string, unknown>;
  await writeFile(join(path, file), JSON.stringify(change(json)));
  return new NodeFolder(path);
}

describe("a case that is not as it should be is a typed error", () => {
  const call = (change: object) => (json: Record<string, unknown>) => ({ ...json, ...change });
  it.each<[string, string, (json: Record<string, unknown>) => unknown, RegExp]>([
    ["schedulers/ddim-eta", "call.json", () => null, /expected a JSON object, found null/],
    ["schedulers/ddim-eta", "call.json", () => ["a"], /expected a JSON object/],
    [
      "schedulers/ddim-eta",
      "call.json",
      call({ num_inference_steps: "10" }),
      /"num_inference_steps" is "10", not a number/,
    ],
    ["schedulers/ddim-eta", "call.json", call({ num_inference_steps: 0.5 }), /is 0.5, expected a whole number/],
    [
      "schedulers/ddim-eta",
      "call.json",
      call({ num_inference_steps: 1e12 }),
      /expected a whole number from 1 to 100000/,
    ],
    ["schedulers/ddim-eta", "call.json", call({ step: true }), /call.json: step: expected a JSON object, found true/],
    ["schedulers/ddim-eta", "call.json", call({ step: { eta: [0.5] } }), /step has eta \[0.5\], which is no value/],
    ["schedulers/ddim-eta", "call.json", call({ step: { eta: "" } }), /step has eta ""/],
    ["schedulers/ddim-eta", "call.json", call({ step: { __proto__x: 1 } }), /step has an argument "__proto__x"/],
    ["schedulers/ddim-eta", "call.json", call({ set_timesteps: { mu: null } }), /mu is null, not a number/],
    [
      "schedulers/ddim-eta",
      "call.json",
      call({ set_timesteps: { timesteps: "abc" } }),
      /timesteps is "abc", not a list/,
    ],
    ["schedulers/ddim-eta", "call.json", call({ set_timesteps: { timesteps: [true] } }), /timesteps is \[true\]/],
    ["rng", "config.json", call({ cases: [] }), /needs a list "cases"/],
    ["rng", "config.json", call({ cases: [null] }), /has the seed undefined/],
    ["rng", "config.json", call({ cases: [{ seed: 0, draws: [] }] }), /draws of seed 0 must be a list/],
    [
      "rng",
      "config.json",
      call({ cases: [{ seed: 0, draws: [[1e9, 1e9]] }] }),
      /has the shape \[1000000000,1000000000\]/,
    ],
    ["rng", "config.json", call({ cases: [{ seed: "0", draws: [[1]] }] }), /has the seed "0"/],
    ["rng", "config.json", call({ cases: [{ seed: -1, draws: [[1]] }] }), /seed must be a whole number/],
    ["pipelines/svd", "call.json", call({ unet: "/etc" }), /is not a path inside the folder/],
    ["pipelines/svd", "call.json", call({ unet: "../../../x", vae: "vae" }), /which leaves the folder/],
    ["pipelines/svd", "call.json", call({ unet: "a/../../x" }), /is not a path inside the folder/],
    ["pipelines/svd", "call.json", call({ vae: 5 }), /names 5 as its vae, not a folder/],
    ["pipelines/dit", "call.ddim.json", call({ scheduler: "../scheduler" }), /is not a path inside the folder/],
    ["pipelines/dit", "call.ddim.json", call({ scheduler: null }), /names the scheduler null, not a folder/],
    ["pipelines/dit", "call.ddim.json", call({ guidance_scale: true }), /"guidance_scale" is true, not a number/],
  ])("%s: %s %#", async (name, file, change, message) => {
    const failed = verify(await withJson(name, file, change));
    await expect(failed).rejects.toThrow(HalfstepError);
    await expect(failed).rejects.toThrow(message);
  });

  it("a folder with nothing in it fails, and a call without its tensors", async () => {
    await expect(verify(new MemoryFolder("empty", new Map()))).rejects.toThrow(HalfstepError);
    const call = new MemoryFolder("case", new Map([["call.json", "{}"]]));
    await expect(verify(call)).rejects.toThrow("case: has a call.json, but no io.safetensors to compare with.");
  });
});

describe("halfstep verify of several folders", () => {
  it("goes on after one that fails, says which, and ends with 1", async () => {
    const empty = await temporaryFolder();
    const good = fixture("schedulers/ddim-eta").path;
    const { code, stdout } = await halfstep("verify", empty, good);
    expect(code).toBe(1);
    const [first, second] = stdout.split("\n").filter((line) => !line.startsWith(" "));
    expect(first).toMatch(/^FAIL {2}.*CheckpointError: /);
    expect(second).toBe(`pass  ${good}  DDIMScheduler`);
    // docs/json.schema.json
    const json = await halfstep("verify", empty, good, "--json");
    const lines = json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { command: "verify", folder: empty, pass: false, error: { name: "CheckpointError" } },
      { command: "verify", folder: good, pass: true },
    ]);
  });
});
