/** The programs in examples/, as a user runs them. examples/browser is in test/browser. */
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { pickScheduler } from "../../src/components/solver.ts";
import { pngText } from "../../src/media/picture.ts";
import { readPicture } from "../../src/media/picture-node.ts";
import { psnr } from "../../src/metrics/similarity.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { root } from "../support/cli.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinySize, writeTinyPipeline } from "../support/tiny-pipeline.ts";

let folder: string;
let pipe: TextToImagePipeline;
beforeAll(async () => {
  folder = await temporaryFolder();
  const embedded = new NodeFolder(join(root, "checkpoints/fluent-emoji"));
  pipe = await TextToImagePipeline.fromFolder(embedded, nodeRuntime);
});

async function example(name: string, ...args: string[]): Promise<string> {
  const options = { cwd: folder, env: { ...process.env, TSX_TSCONFIG_PATH: join(root, "tsconfig.json") } };
  const program = ["--import", import.meta.resolve("tsx"), join(root, "examples", name), ...args];
  return (await promisify(execFile)(process.execPath, program, options)).stdout;
}

const numbers = (text: string) => [...text.matchAll(/-?\d+(\.\d+)?/g)].map(([number]) => Number(number));

it("are all here", async () => {
  const programs = (await readdir(join(root, "examples"))).filter((name) => name.endsWith(".ts"));
  const tests = await readFile(import.meta.filename, "utf8");
  expect(programs.filter((name) => !tests.includes(`example("${name}"`))).toEqual([]);
});

it("first-pictures.ts draws the prompts that it is given, with the pipeline's own settings", async () => {
  await example("first-pictures.ts", "a red apple", "fire!");
  expect((await readdir(join(folder, "out"))).sort()).toEqual(["a-red-apple.png", "contact-sheet.png", "fire-.png"]);
  const file = join(folder, "out/a-red-apple.png");
  expect(pngText(await readFile(file))).toMatchObject({ prompt: "a red apple", seed: "7" });
  const { images } = await pipe.generate("a red apple", { seed: 7 });
  expect((await readPicture(file)).data).toEqual(images[0]!.data);
});

it("video.ts makes a GIF of 16 frames", { timeout: 120_000 }, async () => {
  // 13 of 25 steps is docs/streamlined.md's schedule.
  expect(await example("video.ts", "fire", "fire.gif")).toContain("fire.gif: 13 full steps, 12 rehash steps");
  const { default: sharp } = await import("sharp");
  const { pages, format, width, height } = await sharp(join(folder, "fire.gif")).metadata();
  expect({ pages, format, width, height }).toEqual({ pages: 16, format: "gif", width: 64, height: 64 });
});

it("class-to-image.ts draws classes by number and by name", async () => {
  const dit = await writeTinyPipeline(await temporaryFolder(), "dit");
  const lines = (await example("class-to-image.ts", dit.path, "1", "tiger cat")).trim().split("\n");
  expect(lines.map((line) => line.split(/\s{2}/)[0])).toEqual(["class-1-7.png", "class-2-8.png"]);
  const { width } = await readPicture(join(folder, "class-2-8.png"));
  expect(width).toBe(tinySize);
  expect(pngText(await readFile(join(folder, "class-2-8.png")))).toMatchObject({
    class: "2",
    label: lines[1]!.split(/\s{2}/)[1]!,
  });
});

it("step-policy.ts does the steps in full that its policy says", async () => {
  const scheduler = pickScheduler(pipe.schedulerConfig);
  scheduler.setTimesteps(20);
  const full = [...scheduler.timesteps].filter((timestep, index) => timestep > 700 || index % 3 === 0).length;
  const [fullSteps, , , decibels] = numbers(await example("step-policy.ts"));
  expect(fullSteps).toBe(full);
  expect(decibels).toBeGreaterThan(30);
});

it("denoiser.ts leaves out every second step once it has two outputs, and keeps the last", async () => {
  const [fullSteps, , , decibels] = numbers(await example("denoiser.ts"));
  const full = Array.from({ length: 20 }, (_, i) => i < 2 || i % 2 === 0 || i === 19).filter(Boolean).length;
  expect(fullSteps).toBe(full);
  // The picture that it is compared with is the pipeline's own: so embedding, guidance and decoding are as there.
  const { images } = await pipe.generate("a red apple", { steps: 20, seed: 7, accelerate: "none" });
  const own = psnr(await readPicture(join(folder, "extrapolated.png")), images[0]!);
  expect(decibels).toBe(Number(own.toFixed(1)));
  expect(decibels).toBeGreaterThan(30);
});

it("step-mix.ts finds a better policy than the baseline, and no episode below the threshold", async () => {
  const [baseline, best, threshold, weeks, now, lowest] = numbers(await example("step-mix.ts", "600"));
  expect(weeks).toBe(600);
  expect(threshold).toBeCloseTo(0.95 * baseline!, 3);
  expect(lowest).toBeGreaterThanOrEqual(threshold!);
  expect(now).toBeGreaterThan(baseline!);
  expect(best).toBeGreaterThanOrEqual(now!);
});
