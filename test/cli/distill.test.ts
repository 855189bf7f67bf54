import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { fileSource } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { FloatTensor, Tensor } from "../../src/tensor.ts";
import { halfstep } from "../support/cli.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

let folder: string;
let model: string;
let captions: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  model = (await writeTinyPipeline(join(folder, "model"), "pixart", { layers: 3 })).path;
  captions = join(folder, "captions.txt");
  await writeFile(captions, "a red cat\n\na blue dog\n");
});

const small = ["--batch", "2", "--pictures", "2", "--sampling-steps", "5", "--schedule", "fifii", "--threads", "1"];
const distill = (...args: string[]) => halfstep("distill", model, "--captions", captions, ...small, ...args);

describe("halfstep distill", () => {
  it("trains a module that the model then draws with", async () => {
    const out = join(folder, "trained");
    const { code, stdout, stderr } = await distill("--steps", "3", "--out", out, "--json", "--quiet");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout.trim().split("\n").at(-1)!)).toMatchObject({ out, finished: true, updates: 3 });
    expect((await readdir(out)).sort()).toEqual(["config.json", "feedback.safetensors"]);
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    const expected = {
      feed_block: 1,
      resume_block: 1,
      embedding_change: true,
      trend: true,
      mixing: true,
      own_blocks: true,
    };
    expect(config).toMatchObject({ ...expected, schedule: "full,inner,full,inner,inner" });

    const copy = join(folder, "with-module");
    await cp(model, copy, { recursive: true });
    await mkdir(join(copy, "ilf"));
    await cp(out, join(copy, "ilf"), { recursive: true });
    const picture = await halfstep(
      "generate",
      "a red cat",
      "-m",
      copy,
      "-o",
      join(folder, "cat.png"),
      "--steps",
      "5",
      "--json",
    );
    expect(JSON.parse(picture.stdout)).toMatchObject({ accelerate: "ilf", fullSteps: 2, innerSteps: 3 });
  });

  it("goes on from its checkpoint, and not from one of other settings", async () => {
    const out = join(folder, "stopped");
    const first = await distill("--steps", "3", "--out", out, "--minutes", "0", "--json");
    expect(JSON.parse(first.stdout)).toMatchObject({ finished: false, updates: 0 });
    expect(await readdir(out)).toEqual(["state.safetensors"]);
    const { metadata } = await SafetensorsFile.open(await fileSource(join(out, "state.safetensors")));
    // As version 0.1.0 wrote it.
    expect(metadata["settings"]).toMatch(
      new RegExp(
        '^{"config":{"feedBlock":1,"resumeBlock":1,"embeddingChange":true,"trend":true,"mixing":true,"ownBlocks":true,' +
          '"schedule":\\["full","inner","full","inner","inner"\\]},"guidanceScale":[0-9.]+,"guidanceInterval":\\[0,1\\],' +
          '"learningRate":0.001,"batch":2,"samplingSteps":5,"featureLoss":0,"pictures":2,"reuse":4,"loss":"root","seed":0,' +
          '"aim":0,"backbone":"[0-9a-f]{32}"}$',
      ),
    );
    const other = await distill("--steps", "3", "--out", out, "--no-mixing");
    expect(other.code).toBe(1);
    expect(other.stderr).toContain("is the checkpoint of a run with other settings");
    // As if it had come to the end: nothing is left to do but to write the module.
    const path = join(out, "state.safetensors");
    const file = await SafetensorsFile.open(await fileSource(path));
    const tensors = new Map<string, Tensor>();
    for (const name of file.entries.keys()) tensors.set(name, await file.read(name));
    (tensors.get("ema/feedback/scale.bias") as FloatTensor).data.fill(0.25);
    await writeSafetensors(path, tensors, { metadata: { ...file.metadata, steps: "3" } });
    const again = await distill("--steps", "3", "--out", out, "--json");
    expect(JSON.parse(again.stdout)).toMatchObject({ finished: true, updates: 3, loss: 0 });
    const module = await SafetensorsFile.open(await fileSource(join(out, "feedback.safetensors")));
    const { data } = (await module.read("scale.bias")) as FloatTensor;
    expect(new Set(data)).toEqual(new Set([0.25]));
  });

  it.each([
    [["--from", "nowhere"], "--from nowhere: has no config.json, so it is not a feedback module's folder."],
    [["--schedule", "if"], "A schedule starts with a full step"],
    [["--feed-block", "4"], "feedBlock must be a whole number from 1 to 3, the model's blocks, not 4."],
    [["--captions", "none.txt"], "--captions none.txt: there is no such file."],
  ])("says what is wrong with %j", async (args, message) => {
    const { code, stderr } = await distill("--out", join(folder, "wrong"), ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});
