import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, it } from "vitest";
import { version } from "../../package.json";
import { reportOf } from "../../src/cli/bench/ilf.ts";
import { score } from "../../src/cli/bench/ilf-scores.ts";
import { resultJson } from "../../src/cli/json.ts";
import { encodePng } from "../../src/media/picture.ts";
import { RawImage } from "../../src/media/raw-image.ts";
import { Judge } from "../../src/metrics/judge.ts";
import { platform } from "../../src/platform/node.ts";
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

  it("verify, of folders with reference tensors, without, and with a fault", async () => {
    const good = [fixture("rng").path, model];
    expect(await linesOf("verify", ...good)).toMatchObject([{ pass: true }, { pass: true, outputs: [] }]);
    const { stdout } = await halfstepHere("verify", good[0]!, join(folder, "nothing"), "--json", "--quiet");
    expect(process.exitCode).toBe(1);
    process.exitCode = undefined; // it is this process's too
    for (const line of stdout.trimEnd().split("\n")) expect(validate(JSON.parse(line)), line).toBe(true);
    expect(stdout).toContain('"error":');
  });

  it("models", async () => {
    const { embedded } = await resultOf("models");
    expect(embedded).toContainEqual(expect.objectContaining({ name: "fluent-emoji" }));
  });

  it("explore run and decide", async () => {
    const run = ["explore", "run", "--env", "chain", "--episodes", "3", "--seeds", "2", "--workers", "0"];
    const result = await resultOf(...run, "--algorithms", "bpi-ucbvi,epsmix");
    expect(result["algorithms"]).toMatchObject([{ algorithm: "bpi-ucbvi", seeds: 2 }, { algorithm: "epsmix" }]);
    const state = join(fixture("stepmix").path, "mixture/state.json");
    for (const algorithm of ["stepmix", "epsmix"]) {
      const decision = await resultOf("explore", "decide", "--state", state, "--algorithm", algorithm);
      expect(decision["kind"]).toBe("mixture");
    }
  });

  it("rehash-profile and bench streamlined, of a small model of videos", async () => {
    const video = (await writeVideoPipeline("animatediff")).path;
    const small = ["--steps", "3", "--frames", "2", "--threads", "1"];
    const out = join(folder, "profile");
    const size = ["--width", "24", "--height", "16", "--full", "2", "--speedup", "1"];
    expect(await resultOf("rehash-profile", video, ...small, ...size, "--out", out)).toMatchObject({ out, steps: 3 });
    const bench = await resultOf("bench", "streamlined", "-m", video, "--samples", "2", ...small);
    expect(bench["rows"]).toMatchObject([{ mode: "3 full steps", fullSteps: 3, psnr: 60, ssim: 1 }, {}, {}, {}]);
  });

  it("eval", async () => {
    const result = await resultOf("eval", "fluent-emoji", "--samples", "2", "--steps", "1", "--threads", "1");
    expect(result).toMatchObject({ samples: 2, steps: 1, model: "fluent-emoji" });
  });

  it("bench ilf, whose rivals take minutes to set: its report of one mode", async () => {
    const picture = new RawImage({ width: 64, height: 64, data: new Uint8Array(64 * 64 * 3).fill(90) });
    const mode = { name: "50 full steps", steps: 50, acceleration: { method: "none" as const } };
    const judge = await Judge.open(await platform.resolveModel("emoji-align"), platform.runtime, { threads: 1 });
    const measured = { mode, pictures: [picture, picture], seconds: [1, 3], fullSteps: 50 };
    const rows = await score([measured], judge, 2).finally(() => judge.release());
    const line = resultJson("bench ilf", reportOf({ model: "fluent-emoji", steps: 50, seed: 0, samples: 2 }, rows));
    validate(JSON.parse(line));
    expect(validate.errors, line).toBeNull();
    expect(JSON.parse(line).rows).toMatchObject([{ mode: mode.name, fullSteps: 50, psnr: 60, ssim: 1 }]);
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
