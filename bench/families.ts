/** The families of text-to-image models at their published sizes, with random weights: time and memory. */
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../src/cli/bench/averages.ts";
import { takeTurns, timed } from "../src/cli/bench/turns.ts";
import { multiplicationsPerSecond } from "../src/cli/estimate.ts";
import { steadyAllocator } from "../src/cli/memory.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import { duration } from "../src/cli/terminal.ts";
import { newPipeline, writeModel } from "../src/init/init-node.ts";
import { pipelineGeometry } from "../src/init/pipelines.ts";
import { autoencoderKL } from "../src/models/autoencoder-kl.ts";
import { architectureOf } from "../src/models/registry.ts";
import { releaseAll } from "../src/runtime/open-all.ts";
import { parseBytes } from "../src/streamlined/bytes.ts";
import { multiplyAddsOfModel } from "../src/streamlined/multiply-adds.ts";
import type { Bench, CommonOptions, Context } from "./bench.ts";
import { run } from "./child.ts";
import { benchFolder } from "./dit.ts";
import { spread } from "./measure.ts";
import { findPython, peerInputs, TorchPeer } from "./peers/torch.ts";
import { barText, type Figure, figure, isFigure } from "./report.ts";
import type { Row } from "./result.ts";
import { formatted, numbers, words } from "./table.ts";
import { openUNet } from "./unet.ts";

/** One picture of a family. */
interface Family {
  readonly name: string;
  readonly words: string;
  /** float32 where weights are mapped as they lie; halves take half of the disk. */
  readonly dtype: "fp32" | "fp16";
  /** In pixels, both sides. */
  readonly size: number;
  readonly steps: number;
  /** 0 is none: the denoiser runs once a step. */
  readonly guidance: number;
}

const families: readonly Family[] = [
  { name: "sd-1.5", words: "Stable Diffusion 1.5", dtype: "fp32", size: 512, steps: 4, guidance: 7.5 },
  { name: "sd-turbo", words: "SD-Turbo", dtype: "fp16", size: 512, steps: 1, guidance: 0 },
  {
    name: "sd3.5-medium",
    words: "Stable Diffusion 3.5 medium, without T5",
    dtype: "fp16",
    size: 512,
    steps: 2,
    guidance: 4.5,
  },
  { name: "sdxl", words: "Stable Diffusion XL", dtype: "fp32", size: 1024, steps: 2, guidance: 5 },
];

interface Options extends CommonOptions {
  only?: Part[];
  families?: string[];
  steps?: number;
  size?: number;
  rounds: number;
  threads: number;
  budget: string;
  models: string;
  python: string;
}

type Part = keyof typeof parts;
const parts = { unet, pictures };
const whole = (least: number, most: number) => numberBetween(least, most, { whole: true });

/** How the documentation words the figures. */
const names = {
  "unet-planned":
    "Stable Diffusion 1.5, 512 pixels, one UNet call with guidance, by a plan (`--memory`): speed, over PyTorch's on the same cores",
  unet: "the same in one session",
  "unet-memory": "its peak memory by a plan, over its weights and the values that it counts",
  "xl-memory": "Stable Diffusion XL, 1024 pixels, `--memory 8GB`, float32 weights: peak memory",
  "xl-time": "its time, over that without `--memory`",
};

export const familiesBench: Bench<Options> = {
  name: "families",
  summary:
    "a picture of each family at its published size, with random weights: time and memory (needs 24 GB, 28 GB of disk)",
  time: "20 min",
  options: (command) =>
    command
      .option("--only <parts...>", `some of ${Object.keys(parts).join(", ")}`)
      .option("--families <names...>", `of pictures, some of ${families.map(({ name }) => name).join(", ")}`)
      .option("--steps <n>", "of every picture, instead of what is usual for the family here", whole(1, 1000))
      .option("--size <pixels>", "of every picture", whole(64, 2048))
      .option("--rounds <n>", "turns that the UNet and PyTorch get", whole(1, 1000), 5)
      .option("--threads <n>", "threads of both sides", whole(1, 256), Math.min(2, availableParallelism()))
      .option("--budget <amount>", "of Stable Diffusion XL's second picture", "8GB")
      .option("--models <folder>", "where the models are, or are made", join(benchFolder, "families"))
      .option("--python <folder>", "Python environment with PyTorch (bench/peers/setup.sh)", join(benchFolder, "venv")),
  async *run(options, context) {
    const chosen = Object.entries(parts).filter(([name]) => !options.only || options.only.includes(name as Part));
    for (const family of familiesOf(options)) await modelOf(family.name, options);
    await tellTime(
      chosen.map(([name]) => name as Part),
      options,
    );
    for (const [, measure] of chosen) yield* measure(options, context);
  },
  tables: {
    pictures: {
      only: (row) => !isFigure(row),
      columns: [
        words("", "name"),
        numbers("pixels", "size", "0"),
        numbers("steps", "steps", "0"),
        words("weights", "dtype"),
        words("`--memory`", "memory"),
        numbers("seconds", "seconds", "0"),
        numbers("peak memory", "peakBytes", "1G", " GB"),
        numbers("weights in float32", "weightBytes", "1G", " GB"),
      ],
    },
    bars: {
      only: isFigure,
      columns: [
        words("", "name", names),
        ["bar", (row) => barText(row as Figure)],
        ["measured", ({ value, unit }) => (value === null ? "–" : `${formatted(value, "2")}${unit}`)],
      ],
    },
  },
};

const familiesOf = ({ families: chosen }: Options) => families.filter(({ name }) => !chosen || chosen.includes(name));

/** The folder of a family, made if it is not there. */
async function modelOf(name: string, { models, seed }: Options): Promise<string> {
  const { dtype } = families.find((family) => family.name === name)!;
  const folder = join(models, `${name}-${dtype}-seed${seed}`);
  if (existsSync(folder)) return folder;
  await mkdir(models, { recursive: true });
  console.error(`making ${folder} ...`);
  await writeModel(folder, newPipeline(pipelineGeometry(name)!), { seed, dtype: dtype === "fp32" ? "F32" : "F16" });
  return folder;
}

/** About what a process takes to start, to load and to encode the prompt, and what a pipeline's text has for tokens at most. */
const SECONDS_TO_LOAD = 20;
const MOST_TOKENS = 333;

/** Says how long all will take, from how fast this machine multiplies. */
async function tellTime(chosen: readonly Part[], options: Options): Promise<void> {
  const rate = await multiplicationsPerSecond(options.threads);
  const ofPart: Record<Part, () => number> = {
    // Both sides, and each once to warm up, to compare and to see its memory.
    unet: () => ((3 * options.rounds + 6) * multiplyAdds(families[0]!, 512).step) / rate + SECONDS_TO_LOAD,
    pictures: () =>
      familiesOf(options).reduce((sum, family) => {
        const { step, decoder } = multiplyAdds(family, options.size ?? family.size);
        const seconds = ((options.steps ?? family.steps) * step + decoder) / rate + SECONDS_TO_LOAD;
        return sum + (family.name === "sdxl" ? 2 : 1) * seconds;
      }, 0),
  };
  const seconds = chosen.reduce((sum, part) => sum + ofPart[part](), 0);
  console.error(`About ${duration(seconds)} in all.`);
}

/** Multiply-adds of a step and of the decoder. */
function multiplyAdds({ name, guidance }: Family, size: number): { step: number; decoder: number } {
  const { networks } = pipelineGeometry(name)!;
  const latent = { height: size / 8, width: size / 8 };
  const denoiser = networks.get("unet") ?? networks.get("transformer")!;
  const architecture = architectureOf(denoiser);
  const geometry = {
    batch: guidance > 1 ? 2 : 1,
    tokens: denoiser["joint_attention_dim"] ? MOST_TOKENS : 77,
    ...latent,
  };
  const decoder = autoencoderKL.decoder.parseConfig(networks.get("vae")!);
  return {
    step: multiplyAddsOfModel(architecture.model(architecture.parseConfig(denoiser), geometry)),
    decoder: multiplyAddsOfModel(autoencoderKL.decoder.model(decoder, { batch: 1, ...latent })),
  };
}

// ---------------------------------------------------------------- the UNet by itself

async function* unet(options: Options, context: Context): AsyncGenerator<Figure> {
  const folder = join(await modelOf("sd-1.5", options), "unet");
  yield* await speed(folder, options, context);
  yield await peak(folder, options);
}

/** In one session, and by a plan: both take turns with PyTorch. */
async function speed(folder: string, options: Options, context: Context): Promise<Figure[]> {
  const { python, seed, rounds, threads } = options;
  const part = { name: "SD 1.5's UNet by a plan, speed / PyTorch's", id: "unet-planned", bar: { atLeast: 1 } };
  const whole = { name: "in one session", id: "unet", bar: { atLeast: 1 } };
  const interpreter = findPython(python);
  if (!interpreter) {
    const detail = "There is no Python environment for PyTorch: bench/peers/setup.sh makes it, --python says where.";
    return [part, whole].map((one) => figure({ ...one, value: null, detail }));
  }
  const scratch = await mkdtemp(join(tmpdir(), "halfstep-peers-"));
  let peer: TorchPeer | undefined;
  const opened = await openUNet(folder);
  const settings = { threads, takesTurns: true };
  const planned = await opened.loadPlanned(settings);
  const one = await opened.load(settings);
  try {
    const feeds = opened.feeds(seed);
    await writeFile(join(scratch, "inputs.json"), peerInputs(feeds));
    peer = await TorchPeer.start(interpreter, "unet", { folder, inputs: join(scratch, "inputs.json"), threads });
    const agreement = await peer.agrees(await planned.run(feeds), join(scratch, "output"));
    const asked = peer;
    console.error(`taking turns with PyTorch, ${rounds} rounds ...`);
    const times = await takeTurns(
      {
        planned: () => timed(() => planned.run(feeds)),
        one: () => timed(() => one.run(feeds)),
        pytorch: () => asked.run(),
      },
      { rounds },
    );
    context.peer("pytorch", peer.version);
    const theirs = median(times.pytorch);
    const made = (of: typeof part, own: readonly number[], detail: string) =>
      figure(
        { ...of, value: theirs / median(own), detail },
        { milliseconds: median(own), peerMilliseconds: theirs, peerPeakBytes: peer!.peak },
      );
    return [
      made(
        part,
        times.planned,
        `UNet of Stable Diffusion 1.5, 512 pixels, batch 2, fp32, ${threads} threads, same weights; PyTorch ${peer.version}, eager\n` +
          `${agreement}\nhalfstep ${spread(times.planned)}\nPyTorch  ${spread(times.pytorch)}, peak memory ${gigabytes(peer.peak)}`,
      ),
      made(whole, times.one, `halfstep ${spread(times.one)}`),
    ];
  } catch (error) {
    return [part, whole].map((one) => figure({ ...one, value: null, detail: (error as Error).message }));
  } finally {
    peer?.stop();
    await releaseAll([planned, one]);
    await rm(scratch, { recursive: true });
  }
}

/** Of a process that runs the UNet once by its plan. */
async function peak(folder: string, { threads, seed }: Options): Promise<Figure> {
  const script = fileURLToPath(new URL("unet-memory.ts", import.meta.url));
  const measured = async (...way: string[]) => {
    const command = ["--import", "tsx", script, folder, String(seed), String(threads), ...way];
    const { stdout } = await run(process.execPath, command);
    return JSON.parse(stdout) as Record<"peak" | "weights" | "values", number>;
  };
  const { peak, weights, values } = await measured("planned");
  const whole = await measured();
  return figure(
    {
      id: "unet-memory",
      name: "its peak memory by a plan / weights and values",
      value: peak / (weights + values),
      bar: { atMost: 1.1 },
      detail:
        `peak resident ${gigabytes(peak)}; weights ${gigabytes(weights)}, values counted ${gigabytes(values)}\n` +
        `in one session ${gigabytes(whole.peak)}`,
    },
    { peakBytes: peak, weightBytes: weights, valueBytes: values, sessionPeakBytes: whole.peak },
  );
}

// ---------------------------------------------------------------- pictures

interface Picture extends Row {
  readonly seconds: number;
  readonly peakBytes: number;
}

async function* pictures(options: Options): AsyncGenerator<Row> {
  for (const family of familiesOf(options)) {
    const free = await picture(family, options);
    yield free;
    if (family.name !== "sdxl") continue;
    const held = await picture(family, options, options.budget);
    yield held;
    yield figure({
      id: "xl-memory",
      name: `SDXL's peak memory with ${options.budget}`,
      value: held.peakBytes / 1e9,
      unit: " GB",
      bar: { atMost: parseBytes(options.budget) / 1e9 },
      detail: `${gigabytes(free.peakBytes)} without --memory`,
    });
    yield figure({
      id: "xl-time",
      name: "its time / that without",
      value: held.seconds / free.seconds,
      bar: { atMost: 1.1 },
      detail: `${held.seconds.toFixed(0)} s and ${free.seconds.toFixed(0)} s`,
    });
  }
}

/** One picture through the command line, in a process of its own. */
async function picture(family: Family, options: Options, memory?: string): Promise<Picture> {
  const { name, dtype, guidance } = family;
  const { size = family.size, steps = family.steps } = options;
  const model = await modelOf(name, options);
  const scratch = await mkdtemp(join(tmpdir(), "halfstep-picture-"));
  const settings = [
    ...["--steps", steps, "--guidance", guidance, "--width", size, "--height", size],
    ...["--threads", options.threads, "--seed", options.seed],
    ...(memory ? ["--memory", memory] : []),
  ].map(String);
  console.error(`${name}, ${size} pixels, ${steps} steps${memory ? `, ${memory}` : ""} ...`);
  try {
    const script = fileURLToPath(new URL("family-picture.ts", import.meta.url));
    const { stdout } = await run(
      process.execPath,
      [
        ...["--import", "tsx", script, "generate", "a cat", "--model", model, ...settings],
        ...["--out", join(scratch, "cat.png"), "--json"],
      ],
      memory ? { ...process.env, ...steadyAllocator } : process.env,
    );
    const [made, took] = stdout
      .trimEnd()
      .split("\n")
      .slice(-2)
      .map((line) => JSON.parse(line)) as [{ seconds: number }, { peak: number }];
    return {
      id: memory ? `${name}-${memory}`.toLowerCase().replaceAll(".", "-") : name.replaceAll(".", "-"),
      ...{ name: family.words, size, steps, guidance, dtype, memory: memory ?? "" },
      ...{ seconds: made.seconds, peakBytes: took.peak, weightBytes: await weightBytes(model, dtype) },
    };
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** Of all networks, as float32. */
async function weightBytes(folder: string, dtype: Family["dtype"]): Promise<number> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".safetensors"));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0) * (dtype === "fp32" ? 1 : 2);
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
