/** The options of `generate`. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { defined } from "../options/defined.ts";
import type { TextToImageOptions } from "../pipelines/text-to-image-options.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  type LoadingOptions,
  type Memory,
  type OutputOptions,
  type SamplerOptions,
  type SizeOptions,
} from "./options.ts";
import { promptOptions } from "./prompt-options.ts";

/** With those that images alone have. */
const imageOptions = [
  "strength",
  ...promptOptions,
  "prompt3",
  "negativePrompt3",
  "aestheticScore",
  "negativeAestheticScore",
  "maxSequenceLength",
] as const satisfies readonly (keyof TextToImageOptions)[];

type PromptOptions = Pick<TextToImageOptions, (typeof imageOptions)[number]>;

/** In addition there are `--accelerate` and its options, which `methodOf` reads. */
export interface GenerateOptions extends LoadingOptions, SamplerOptions, SizeOptions, OutputOptions, PromptOptions {
  cleanCaption: boolean;
  resolutionBinning: boolean;
  out: string;
  prompts?: string;
  class?: string[];
  negative: string;
  vae?: string;
  memory?: Memory;
  image?: string;
  mask?: string;
  guidanceInterval?: GuidanceInterval;
  count: number;
  sheet: boolean;
}

/** Settings that apply only to images from prompts. Those that are on by default are left to the model. */
export function ofPrompt({ negative, cleanCaption, resolutionBinning, ...options }: GenerateOptions) {
  const named = Object.fromEntries(imageOptions.map((name) => [name, options[name]])) as PromptOptions;
  return {
    negativePrompt: negative,
    ...defined(named),
    ...(!cleanCaption && { cleanCaption }),
    ...(!resolutionBinning && { useResolutionBinning: false }),
  };
}

/** The first option among those given that needs a prompt, as a flag; undefined if there is none. */
export function promptFlag(options: GenerateOptions): string | undefined {
  const given = (["image", "mask", ...imageOptions] as const).find((name) => options[name] !== undefined);
  return given && flagOf(given);
}

/** The flag of an option by its name in the library. */
export const flagOf = (name: string): string =>
  flags.get(name) ?? `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Flags that are not the option's name. */
const flags = new Map([
  ["cropsCoordsTopLeft", "--crop"],
  ["negativeCropsCoordsTopLeft", "--negative-crop"],
]);

export const promptWeightsOption = () =>
  new Option("--prompt-weights", "the prompt has weights in it: (cat:1.3), (cat), [cat]");

/** How the prompt is read. */
export function addTextOptions(command: Command): Command {
  return command
    .addOption(promptWeightsOption())
    .option(
      "--max-sequence-length <n>",
      "PixArt, Stable Diffusion 3: most tokens for T5 (the model's own)",
      countBetween(2, 4096),
    );
}

/** What Stable Diffusion XL and 3 are told besides the prompt. */
export function addXlOptions(command: Command): Command {
  command
    .optionsGroup("Stable Diffusion XL and 3:")
    .option("--prompt3 <prompt>", "3: for T5 (the prompt)")
    .option("--negative-prompt3 <prompt>", "3: for T5 (the negative prompt)");
  return addOptions(command, [
    ...xlOptions("image"),
    new Option("--aesthetic-score <score>", "refiner: how beautiful, from 0 to 10 (6)").argParser(numberBetween(0, 10)),
    new Option("--negative-aesthetic-score <score>", "refiner: the same for the negative prompt (2.5)").argParser(
      numberBetween(0, 10),
    ),
  ]);
}

/** What Stable Diffusion XL is told besides the prompt, of an image or of a video. */
export function xlOptions(what: "image" | "video"): Option[] {
  const sized = (flag: string, about: string) => new Option(`${flag} <WxH>`, about).argParser(sizeOf);
  const cropped = (flag: string, name: string, about: string) => {
    const option = new Option(`${flag} <X,Y>`, about).argParser(cropOf);
    option.attributeName = () => name;
    return option;
  };
  const like = "for the negative prompt (as for the prompt)";
  return [
    new Option("--prompt2 <prompt>", "for the second text encoder (the prompt)"),
    new Option("--negative-prompt2 <prompt>", "for the second text encoder (the negative prompt)"),
    sized("--original-size", `size that the ${what} is to look like it was scaled from (its own)`),
    sized("--target-size", "size that it is to look like it has (its own)"),
    cropped("--crop", "cropsCoordsTopLeft", "left and top of the crop that it is to look like it is (0,0)"),
    sized("--negative-original-size", like),
    sized("--negative-target-size", like),
    cropped("--negative-crop", "negativeCropsCoordsTopLeft", like),
  ];
}

/** "1024x768" as [height, width]. */
function sizeOf(text: string): readonly [number, number] {
  const [width, height] = pair(text, "x", "It must be a width and a height: 1024x768.");
  return [height, width];
}

/** "0,16" as [top, left]. */
function cropOf(text: string): readonly [number, number] {
  const [left, top] = pair(text, ",", "It must be the distances from the left and from the top: 0,16.");
  return [top, left];
}

const MOST_SIDE = 65535;

function pair(text: string, separator: string, problem: string): readonly [number, number] {
  const parts = text.split(separator);
  const numbers = parts.map((part) => (/^\d{1,5}$/.test(part.trim()) ? Number(part) : Number.NaN));
  if (numbers.length === 2 && numbers.every((number) => number <= MOST_SIDE)) return [numbers[0]!, numbers[1]!];
  throw new InvalidArgumentError(`${problem} Each is at most ${MOST_SIDE}.`);
}
