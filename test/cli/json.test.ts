import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, it } from "vitest";
import { version } from "../../package.json";
import { encodePng } from "../../src/media/picture.ts";
import { root } from "../support/cli.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinySize, writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { recordedVideo, writeVideoPipeline } from "../support/video-pipelines.ts";

let validate: ReturnType<Ajv2020["compile"]>;
let folder: string;
let model: string;
beforeAll(async () => {
  validate = new Ajv2020({ strictTypes: false }).compile(
    JSON.parse(await readFile(join(root, "docs/json.schema.json"), "utf8")),
  );
  folder = await temporaryFolder();
  model = (await writeTinyPipeline(join(folder, "model"), "pixart", { layers: 3 })).path;
});

/** The lines of a command's --json, each of which the schema allows. */
async function linesOf(...args: string[]): Promise<Record<string, unknown>[]> {
  const { code, stdout, stderr } = await halfstepHere(...args, "--json", "--quiet");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const lines = stdout.trimEnd().split("\n");
  return lines.map((line) => {
    const value = JSON.parse(line) as Record<string, unknown>;
    validate(value);
    expect(validate.errors, line).toBeNull();
    return value;
  });
}

const resultOf = async (...args: string[]) => (await linesOf(...args)).at(-1)!;
const onnxruntime = async () =>
  JSON.parse(await readFile(join(root, "node_modules/onnxruntime-common/package.json"), "utf8")).version as string;

describe("--json keeps to docs/json.schema.json", () => {
  it("generate: sizes, seeds, the scheduler that ran, and versions", async () => {
    const args = ["generate", "a cat", "-m", model, "--steps", "2", "--threads", "1", "--seed", "4"];
    const result = await resultOf(...args, "--out", join(folder, "a.png"), "--scheduler", "euler");
    expect(result).toMatchObject({
      ...{ command: "generate", prompt: "a cat", scheduler: "EulerDiscreteScheduler", steps: 2, seeds: [4] },
      ...{ width: tinySize, height: tinySize, files: [join(folder, "a.png")], sheet: null },
      versions: { halfstep: version, node: process.versions.node, onnxruntime: await onnxruntime() },
    });
    const own = await resultOf(...args, "--out", join(folder, "b.jpg"));
    const config = join(model, "scheduler/scheduler_config.json");
    expect(own["scheduler"]).toBe(JSON.parse(await readFile(config, "utf8"))._class_name);
  });

  it("generate of classes", async () => {
    const args = ["--class", "3", "5", "-m", fixture("pipelines/dit").path, "--steps", "1", "--threads", "1"];
    expect(await resultOf("generate", ...args, "--out", join(folder, "c.webp"))).toMatchObject({
      images: [{ class: 3 }, { class: 5 }],
      sheet: join(folder, "c-sheet.webp"),
    });
  });

  it("animate, of a prompt and of a picture", async () => {
    const video = (await writeVideoPipeline("animatediff")).path;
    const small = ["--steps", "1", "--frames", "2", "--threads", "1", "--seed", "3"];
    const out = join(folder, "a.gif");
    const args = ["animate", "a cat", "-m", video, "--width", "24", ...small, "--out", out];
    expect(await resultOf(...args)).toMatchObject({ prompt: "a cat", width: 24, height: 16, frames: 2, files: [out] });
    const svd = (await writeVideoPipeline("svd")).path;
    const { call } = await recordedVideo("svd");
    const [width, height] = [Number(call["width"]), Number(call["height"])];
    const image = join(folder, "start.png");
    await writeFile(image, encodePng({ width: 8, height: 8, data: new Uint8Array(192).fill(90) }));
    const size = ["--width", String(width), "--height", String(height)];
    const made = await resultOf("animate", "--image", image, "-m", svd, ...size, ...small, "-o", join(folder, "fr/"));
    expect(made).toMatchObject({ image, width, height, seed: 3, fps: 7 });
  });

  it("info and init", async () => {
    expect(await resultOf("info", model)).toMatchObject({ class: expect.stringMatching(/^PixArt/) });
    const out = join(folder, "dit");
    const made = await resultOf("init", "dit-s-8", "--out", out, "--dtype", "fp16");
    expect(made).toMatchObject({ out, class: "DiTTransformer2DModel", dtype: "fp16" });
    const described = await resultOf("info", out);
    expect(described["components"]).toMatchObject([{ parameters: made["parameters"], dtypes: ["F16"] }]);
  });

  it("distill, with progress and at its end", async () => {
    const captions = join(folder, "captions.txt");
    await writeFile(captions, "a red cat\na blue dog\n");
    const few = ["--batch", "1", "--pictures", "2", "--sampling-steps", "3", "--schedule", "fii", "--threads", "1"];
    const args = ["distill", model, "--captions", captions, "--out", join(folder, "ilf"), "--steps", "100", ...few];
    const lines = await linesOf(...args);
    expect(lines).toMatchObject([
      { event: "progress", step: 100, steps: 100 },
      { event: "result", finished: true, updates: 100 },
    ]);
    // Hours of training are not lost to a second run of the same command.
    const { code, stderr } = await halfstepHere(...args);
    expect(code).toBe(1);
    expect(stderr).toContain("there is a feedback module already. --force replaces it");
  });
});

it("what is no line of halfstep's is refused by the schema", () => {
  for (const value of [
    {},
    { command: "generate", event: "result", versions: { halfstep: "1", node: "20", onnxruntime: "1" } },
    { command: "info", event: "result" },
  ]) {
    expect(validate(value)).toBe(false);
  }
});
