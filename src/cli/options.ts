/** Options that several commands share, and the pipeline options that they become. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { LoraChoice } from "../checkpoints/lora/choice.ts";
import { type Prediction, predictions } from "../checkpoints/single-file/configs.ts";
import { readDecimal } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { defined } from "../options/defined.ts";
import type { Provider } from "../runtime/runtime.ts";
import { checkGuidanceInterval, type GuidanceInterval } from "../sampling/guidance.ts";
import { type SchedulerChoice, schedulerChoices } from "../schedulers/registry.ts";
import { type TimestepSpacing, timestepSpacings } from "../schedulers/spacing.ts";
import { parseBytes } from "../streamlined/bytes.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import { note } from "./terminal.ts";

/** Selects a model's weights; for every command that opens a model. */
export interface SourceOptions {
  variant?: string;
  revision?: string;
  lora?: LoraChoice[];
  predictionType?: Prediction;
}

/** Selects the model and where it runs; for every command that opens a model. */
export interface LoadingOptions extends SourceOptions {
  model: string;
  provider: Provider;
  threads?: number;
}

/** Settings of the sampler; for every command that makes images or videos. */
export interface SamplerOptions {
  /** Always set if its default is not the model's own. */
  steps?: number;
  guidance?: number;
  seed?: number;
  scheduler?: SchedulerChoice;
  timestepSpacing?: TimestepSpacing;
  eta?: number;
  timesteps?: number[];
  sigmas?: number[];
}

export interface SizeOptions {
  width?: number;
  height?: number;
}

export function addOptions(command: Command, options: readonly Option[]): Command {
  for (const option of options) command.addOption(option);
  return command;
}

/** `SourceOptions`. */
export const sourceOptions = (): Option[] => [variantOption(), revisionOption(), loraOption(), predictionOption()];

export const variantOption = () =>
  new Option("--variant <name>", "which weights, where there are several: fp16, bf16 (full precision)");

export const revisionOption = () => new Option("--revision <name>", "branch, tag or commit on the Hub (main)");

const predictionOption = () =>
  new Option(
    "--prediction-type <type>",
    "what a model in one file predicts, where it does not say so (Stable Diffusion 2)",
  ).choices(predictions);

const loraOption = () =>
  new Option(
    "--lora <file[:scale]>",
    "a LoRA (.safetensors), and how much of it (1); several with an option each",
  ).argParser((given: string, before: LoraChoice[] = []): LoraChoice[] => {
    // A drive letter is followed by a colon too.
    const [, file, scale] = /^(.+):([^:/\\]*)$/.exec(given) ?? [];
    if (file === undefined || /^[a-z]$/i.test(file)) return [...before, { file: given }];
    return [...before, { file, scale: numberBetween(-100, 100)(scale!) }];
  });

/** Where a model comes from, with notices from the Hub, for example that it asks to wait. */
export const sourceOf = ({ variant, revision, lora: loras, predictionType }: SourceOptions) => ({
  ...defined({ variant, revision, loras, predictionType }),
  ...noticesOf(),
});

/** Notices go to the terminal. */
export const noticesOf = () => ({ onNotice: (notice: string) => note(`Note: ${notice}`) });

/** `LoadingOptions` without the model, which is an argument in some commands. */
export const deviceOptions = (): Option[] => [...sourceOptions(), providerOption(), threadsOption()];

/** The options for opening a pipeline. */
export const loadingOf = (options: Omit<LoadingOptions, "model">) => ({ ...sourceOf(options), ...deviceOf(options) });

/** The options for where a model runs. */
export const deviceOf = ({ provider, threads }: Pick<LoadingOptions, "provider" | "threads">) => ({
  provider,
  ...defined({ threads }),
});

/**
 * `SamplerOptions`. `guidance` is the description of --guidance. `steps` is the default, or describes the model's own default.
 * The default seed is `seed`, or random without it.
 */
export const samplerOptions = (steps: number | string, guidance: string, seed?: number): Option[] => [
  typeof steps === "number"
    ? new Option("--steps <n>", "inference steps").argParser(countBetween(1, 1000)).default(steps)
    : new Option("--steps <n>", `inference steps (${steps})`).argParser(countBetween(1, 1000)),
  new Option("--guidance <scale>", guidance).argParser(numberBetween(0, 100)),
  seedOption(seed),
  new Option("--scheduler <name>", "another solver than the model's own").choices(Object.keys(schedulerChoices)),
  new Option("--timestep-spacing <name>", "how timesteps are spaced (the model's own)").choices(timestepSpacings),
  new Option("--eta <share>", "DDIM, TCD: how much noise each step adds, from 0 (none) to 1").argParser(
    numberBetween(0, 1),
  ),
  new Option("--timesteps <list>", "timesteps of your own instead of --steps: 999,850,736,...")
    .argParser(numberList)
    .conflicts(["steps", "sigmas"]),
  new Option("--sigmas <list>", "noise levels of your own instead of --steps: 14.615,6.475,...,0")
    .argParser(numberList)
    .conflicts(["steps", "timesteps"]),
];

/** Numbers separated by commas. */
function numberList(text: string): number[] {
  const values = text.split(",").map((part) => readDecimal(part.trim()));
  if (values.every(Number.isFinite)) return values;
  throw new InvalidArgumentError("It must be numbers with commas between them.");
}

/** The sampler's settings for a pipeline, except the guidance, whose default is the pipeline's. */
export const samplerOf = ({ steps, seed, ...solver }: SamplerOptions) => {
  const { scheduler, timestepSpacing, eta, timesteps, sigmas } = solver;
  const count = timesteps || sigmas ? undefined : steps;
  return defined({ steps: count, seed, scheduler, timestepSpacing, eta, timesteps, sigmas });
};

/** How many steps a run has: a list of noise levels has one more, for the end. */
export const stepCount = ({ steps, timesteps, sigmas }: SamplerOptions, own: number): number =>
  timesteps?.length ?? (sigmas ? sigmas.length - 1 : (steps ?? own));

/** The solver's settings, as they are printed with a result; `own` is the configuration of the model's solver. */
export const solverSettings = (options: SamplerOptions, own: RawConfig, ownSteps = 0) => {
  const { timestepSpacing, eta, timesteps, sigmas, scheduler } = options;
  return {
    steps: stepCount(options, ownSteps),
    ...defined({ timestepSpacing, eta, timesteps, sigmas }),
    scheduler: schedulerOf(own, scheduler),
  };
};

/** The diffusers class of the scheduler that runs: the one named by --scheduler, or the model's own. */
function schedulerOf(own: RawConfig, choice: SchedulerChoice | undefined): string {
  return choice === undefined ? String(own["_class_name"]) : schedulerChoices[choice]._class_name;
}

export interface OutputOptions {
  force?: boolean;
  quiet?: boolean;
  json?: boolean;
}

/** `OutputOptions`, without --force if nothing could be replaced. */
export const outputOptions = (what: string, { force = true } = {}): Option[] => [
  ...(force ? [new Option("-f, --force", "replace what has the same name")] : []),
  new Option("-q, --quiet", "no progress and notes; where files are the result, nothing but errors"),
  new Option("--json", `print ${what} as JSON (docs/json.md)`),
];

/** `SizeOptions`. */
export const sizeOptions = (): Option[] => [
  new Option("--width <pixels>", "width (the model's own)").argParser(countBetween(8, 8192)),
  new Option("--height <pixels>", "height (the model's own)").argParser(countBetween(8, 8192)),
];

/** The upper limit leaves room for the seeds of further images. */
const seedOption = (seed?: number): Option => {
  const parse = countBetween(0, Number.MAX_SAFE_INTEGER - 2 ** 20);
  if (seed !== undefined)
    return new Option("--seed <n>", "of the first; the next has the next").argParser(parse).default(seed);
  return new Option("--seed <n>", "same seed, same result (random unless given)").argParser(parse);
};

export const modelOption = (model?: string): Option => {
  const option = new Option(
    "-m, --model <name>",
    "embedded model, folder in diffusers' layout, .safetensors or .gguf file, or Hub id",
  );
  return model === undefined ? option : option.default(model);
};

export const promptsOption = () =>
  new Option("--prompts <file>", "text file with a prompt a line; - reads them from stdin");

export const clipSkipOption = () =>
  new Option("--clip-skip <n>", "leave out so many of the text encoder's last layers (0)").argParser(
    countBetween(0, 100),
  );

export const guidanceRescaleOption = () =>
  new Option("--guidance-rescale <share>", "take away deviation that guidance adds (0)").argParser(numberBetween(0, 1));

/** An amount of memory, as given by the user and in bytes. */
export interface Memory {
  readonly text: string;
  readonly bytes: number;
}

export const memoryOption = () =>
  new Option("--memory <amount>", 'what it may take in all: "6GB", "800MB" (as much as it likes)').argParser(
    (text): Memory => {
      try {
        return { text, bytes: parseBytes(text) };
      } catch (error) {
        throw new InvalidArgumentError((error as Error).message);
      }
    },
  );

export const vaeOption = () =>
  new Option("--vae <name>", "another autoencoder than the model's own: folder, .safetensors file or Hub id");

export const threadsOption = () =>
  new Option("--threads <n>", "CPU threads (all cores)").argParser(countBetween(1, 256));

export const providerOption = () =>
  new Option("--provider <name>", "where to compute").choices(["cpu", "auto", "webgpu", "cuda", "wasm"]).default("cpu");

export const guidanceIntervalOption = () =>
  new Option(
    "--guidance-interval <start:stop>",
    "steps with guidance, as shares of the run: 0:1 is all of them (the model's own)",
  ).argParser((text): GuidanceInterval => {
    const shares = text.split(":").map(readDecimal);
    try {
      checkGuidanceInterval(shares as unknown as GuidanceInterval);
    } catch {
      throw new InvalidArgumentError("It must be two numbers from 0 to 1, the first not above the second: 0.1:1.");
    }
    return shares as unknown as GuidanceInterval;
  });

/** 1234567 -> "1.2 M" */
export function shortNumber(value: number, unit = ""): string {
  const steps: [number, string][] = [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const [size, letter] = steps.find(([limit]) => value >= limit) ?? [1, ""];
  const digits = size === 1 ? 0 : value / size < 100 ? 1 : 0;
  return `${(value / size).toFixed(digits)} ${letter}${unit}`.trim();
}

/** Makes errors about a value name the option that it came from. */
export async function about<T>(option: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof ArgumentError) throw new ArgumentError(`${option} ${cause.message}`, { cause });
    throw cause;
  }
}
