/** Option names of other programs (diffusers, web UIs): accepted if they mean the same, otherwise explained. */
import { type Command, Option } from "commander";

/** Our name, and other names for it. */
const aliases = new Map<string, readonly string[]>([
  ["negative", ["negative-prompt", "neg"]],
  ["guidance", ["guidance-scale", "cfg", "cfg-scale"]],
  ["steps", ["num-inference-steps", "inference-steps", "sampling-steps"]],
  ["scheduler", ["sampler"]],
  ["provider", ["device", "backend"]],
  ["count", ["num-images", "num-images-per-prompt", "n"]],
  ["frames", ["num-frames"]],
  ["out", ["output"]],
  ["width", ["W"]],
  ["height", ["H"]],
  ["image", ["init-image", "init-img"]],
  ["mask", ["mask-image"]],
  ["strength", ["denoising-strength"]],
  ["class", ["classes", "class-label", "class-labels"]],
  ["quiet", ["silent"]],
  ["force", ["overwrite"]],
  ["motion", ["motion-bucket-id"]],
  ["noise", ["noise-aug-strength"]],
  ["adapter", ["motion-adapter"]],
  ["look-ahead", ["aim"]],
  ["prompt2", ["prompt-2"]],
  ["negative-prompt2", ["negative-prompt-2", "negative2"]],
  ["prompt3", ["prompt-3"]],
  ["negative-prompt3", ["negative-prompt-3"]],
  ["crop", ["crops-coords-top-left"]],
  ["max-sequence-length", ["max-tokens"]],
]);

/** Adds hidden options that set the same value as ours. Names that the command already has are left alone. */
export function addAliases(command: Command): void {
  const taken = new Set(command.options.flatMap(({ long, short }) => [long, short]));
  for (const option of [...command.options]) {
    for (const name of aliases.get(option.name()) ?? []) {
      const flag = name.length === 1 ? `-${name}` : `--${name}`;
      if (taken.has(flag)) continue;
      const argument = /[<[].*$/.exec(option.flags)?.[0] ?? "";
      const alias = new Option(`${flag} ${argument}`.trim(), option.description).hideHelp();
      if (option.parseArg) alias.argParser(option.parseArg);
      alias.argChoices = option.argChoices;
      alias.attributeName = () => option.attributeName();
      command.addOption(alias);
    }
  }
}

const PROMPT = 'the prompt is an argument: halfstep generate "a red apple". A list of them is --prompts FILE.';
const TYPES = "weights are read as they are stored, and computed with in float32.";

/** What to do instead of an option that does not exist here. */
export const hints = new Map([
  ["--prompt", PROMPT],
  ["-p", PROMPT],
  ["--fp16", TYPES],
  ["--half", TYPES],
  ["--dtype", TYPES],
  ["--precision", TYPES],
  ["--format", "the ending of --out says the format: .png, .jpg, .webp."],
  ["--batch-size", "--count says how many pictures; they are made together as far as that is faster."],
  ["--gpu", "--provider webgpu or --provider cuda."],
  ["--cpu", "--provider cpu, which is the default."],
  ["--cache-dir", "set the environment's HALFSTEP_CACHE."],
  ["--token", "set the environment's HF_TOKEN."],
  ["--offline", "set the environment's HF_HUB_OFFLINE=1."],
  ["--local-files-only", "set the environment's HF_HUB_OFFLINE=1."],
  ["--verbose", "progress is shown anyway; HALFSTEP_DEBUG=1 shows where an error comes from."],
]);
