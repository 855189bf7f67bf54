import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { platform } from "#platform";
import { readModelIndex } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError } from "../errors.ts";
import { checkFolder, isFreeFolder, namesAfter } from "../media/output-node.ts";
import { readPicture } from "../media/picture-node.ts";
import { latentFactor } from "../models/autoencoder.ts";
import { defined } from "../options/defined.ts";
import { ImageToVideoPipeline, imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import { type Change, type Proposal, propose, RehashProfile } from "../streamlined/profile.ts";
import { printResult } from "./json.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  about,
  addOptions,
  type OutputOptions,
  outputOptions,
  revisionOption,
  type SourceOptions,
  sourceOf,
  threadsOption,
  variantOption,
} from "./options.ts";
import { loadPlots, writePlot } from "./plot.ts";
import { interruptible, ProgressBar, printUnlessQuiet, showStatus } from "./terminal.ts";

interface Options extends SourceOptions, OutputOptions {
  prompt: string[];
  image?: string;
  adapter?: string;
  steps: number;
  full: number;
  speedup: number;
  frames?: number;
  width?: number;
  height?: number;
  seed: number;
  out: string;
  threads?: number;
}

export function rehashProfileCommand(): Command {
  const command = new Command("rehash-profile")
    .description("how much a video model's features change from step to step, and the cut and schedule to use")
    .argument("<model>", "embedded model, folder in diffusers' layout, or Hub id")
    .option("--prompt <text...>", "what to measure on; each is a video", ["a person walking", "a burning candle"])
    .option("--image <file>", "the picture to measure on (Stable Video Diffusion)")
    .option("--adapter <name>", "motion adapter that makes a Stable Diffusion model one of videos")
    .option("--steps <n>", "solver steps", countBetween(2, 1000), 25)
    .option("--full <n>", "how many of them are to be full", countBetween(1, 1000), 13)
    .option("--speedup <times>", "at least as much faster than full steps alone", numberBetween(1, 100), 1.6)
    .option("--frames <n>", "of a video", countBetween(1, 1024))
    .option("--width <pixels>", "width (the model's own)", countBetween(8, 8192))
    .option("--height <pixels>", "height (the model's own)", countBetween(8, 8192))
    .option("--seed <n>", "of the first video", countBetween(0, 2 ** 31), 0)
    .option("-o, --out <folder>", "where to write profile.json and the map", "rehash-profile")
    .addOption(variantOption())
    .addOption(revisionOption())
    .addOption(threadsOption());
  return addOptions(command, outputOptions("the proposal")).action((model: string, options: Options) =>
    interruptible("nothing was written.", (signal) => run(model, options, signal)),
  );
}

async function run(model: string, options: Options, signal: AbortSignal): Promise<void> {
  const { steps, full, speedup, seed } = options;
  if (full > steps) throw new ArgumentError(`--full is ${full}, more than the ${steps} steps.`);
  const out = await freeFolder(options);
  await loadPlots();
  showStatus(`loading ${model}`);
  const { changes, shares } = await measure(model, options, signal);
  const proposal = propose(changes, shares, full, speedup);
  await mkdir(out, { recursive: true });
  await writeFile(
    join(out, "profile.json"),
    JSON.stringify({ model, steps, shares: Object.fromEntries(shares), changes, proposal }, null, 2),
  );
  await writePlot(join(out, "map"), similarityMap(changes, [...shares.keys()]));
  if (options.json) await printResult("rehash-profile", { model, out, steps, seed, ...proposal });
  else await printUnlessQuiet(describe(proposal, out));
}

/** The requested folder, or the next free name, as for files. */
async function freeFolder({ out, force }: Options): Promise<string> {
  await about("--out", () => checkFolder(out));
  const next = namesAfter(out);
  let name = next();
  while (!force && !(await isFreeFolder(name))) name = next();
  return name;
}

/** Measures complete runs in which every step is full. */
async function measure(model: string, options: Options, signal: AbortSignal) {
  const { steps, seed, frames, width, height, threads } = options;
  const profile = new RehashProfile();
  const settings = {
    steps,
    signal,
    onFeatures: profile.record,
    ...{ frames, width, height },
  };
  const folder = await platform.resolveModel(model, { ...sourceOf(options), signal });
  const opening = defined({ threads, variant: options.variant });
  const bar = new ProgressBar("{bar} {value}/{total} steps, {eta_formatted} left");
  const fromPicture = (await readModelIndex(folder)).className === imageToVideoClass;
  const count = fromPicture ? 1 : options.prompt.length;
  let done = 0;
  const onStep = () => bar.show(++done, count * steps);
  try {
    if (fromPicture) {
      if (!options.image) throw new ArgumentError("This model goes on from a picture: give one with --image.");
      const pipe = await ImageToVideoPipeline.fromFolder(folder, platform.runtime, opening);
      await pipe(await readPicture(options.image), { ...settings, seed, onStep });
      const shares = sharesOf(
        pipe,
        pipe.decoder.config,
        pipe.unet.config,
        { frames: frames ?? pipe.unet.config.numFrames, guided: true },
        options,
      );
      await pipe.release();
      return { changes: profile.changes, shares };
    }
    const adapter =
      options.adapter === undefined ? undefined : await platform.resolveModel(options.adapter, { signal });
    const pipe = await TextToVideoPipeline.fromFolder(folder, platform.runtime, {
      ...opening,
      motionAdapter: adapter,
    });
    for (const [i, prompt] of options.prompt.entries()) await pipe(prompt, { ...settings, seed: seed + i, onStep });
    const run = { frames: frames ?? 16, guided: pipe.guidanceScale > 1 };
    const shares = sharesOf(pipe, pipe.vae.config, pipe.unet.config, run, options);
    await pipe.release();
    return { changes: profile.changes, shares };
  } finally {
    bar.stop();
  }
}

function sharesOf(
  { streamlined }: Pick<TextToVideoPipeline, "streamlined"> | Pick<ImageToVideoPipeline, "streamlined">,
  vae: Parameters<typeof latentFactor>[0],
  { sampleSize = 64 }: { sampleSize: number | undefined },
  run: { frames: number; guided: boolean },
  { width, height }: Options,
): Map<string, number> {
  const factor = latentFactor(vae);
  const side = (pixels: number | undefined) => (pixels ? pixels / factor : sampleSize);
  return streamlined.shares({ ...run, batch: 2, height: side(height), width: side(width), tokens: 1 });
}

/** Cosine similarity of features at adjacent steps: steps across, cuts down. */
function similarityMap(changes: readonly Change[], cuts: readonly string[]): Parameters<typeof writePlot>[1] {
  return {
    width: 520,
    height: { step: 20 },
    background: "white",
    config: { font: "DejaVu Sans, Arial, sans-serif" },
    data: { values: changes.map(({ step, cut, cosine }) => ({ step: step + 1, cut, cosine })) },
    mark: "rect",
    encoding: {
      x: { field: "step", type: "ordinal", title: "step, against the one before", axis: { labelAngle: 0 } },
      y: { field: "cut", type: "nominal", title: null, sort: [...cuts], axis: { labelLimit: 400 } },
      color: { field: "cosine", type: "quantitative", title: "similarity", scale: { scheme: "viridis", zero: false } },
    },
  };
}

function describe({ cut, schedule, speedup }: Proposal & { speedup: number }, out: string): string {
  const letters = schedule.map((action) => action[0]).join("");
  const full = schedule.filter((action) => action === "full").length;
  return (
    `${full} of ${schedule.length} steps full, coming back in after ${cut}: ${speedup.toFixed(2)} times as fast by products.\n` +
    `--accelerate rehash --schedule ${letters} --cut ${cut}\n${join(out, "map.svg")}, map.png and profile.json have the map.`
  );
}
