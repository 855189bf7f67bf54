/** Options of a text-to-image call, and the texts that its encoders are given. */
import { type Check, flag, listOf, number, oneOf, whole } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { checkPicture, type Picture } from "../media/picture.ts";
import type { OptionTable } from "../options/options.ts";
import { shareCheck } from "../sampling/denoising-range.ts";
import { strengthCheck } from "../sampling/from-picture.ts";
import type { FloatTensor } from "../tensor.ts";
import { checkLatents, isLatents } from "./given-latents.ts";
import { type PictureOptions, type PictureResult, pictureOptions } from "./pictures.ts";
import { type PromptList, promptList } from "./prompt-list.ts";
import { countCheck, promptCheck, sideCheck } from "./settings.ts";
import type { FamilyOption, FamilyOptions, Texts, TextToImageFamily } from "./text-to-image-family.ts";

/** Options of a call: size, steps, guidance, seeds, an image to begin at, acceleration. */
export interface TextToImageOptions extends PictureOptions, FamilyOptions {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /** How many pictures of each prompt, made together. */
  count?: number;
  /** In pixels; what the model was made for unless given, or what the image has (in multiples of the model's unit). */
  width?: number;
  height?: number;
  /** How much of the deviation that guidance adds is taken away again, from 0 (none, the default) to 1. */
  guidanceRescale?: number;
  /**
   * An image to begin at instead of at noise, as `readPicture` gives it; it is brought to the size that is drawn. Or latents, as a
   * call with `outputType: "latent"` gives them, [1 or images, channels, height, width].
   */
  image?: Picture | FloatTensor;
  /** Whether the result has images, or latents that are not decoded. Images unless given. */
  outputType?: OutputType;
  /**
   * How much of the image may change, above 0 and at most 1: that share of the steps is done. As in diffusers 0.8 unless given, of
   * Stable Diffusion XL 0.3 and of 3 0.6; with a mask 1 (XL: 0.9999, 3: 0.6).
   */
  strength?: number;
  /** Where the image may change: white. Of the image's size. */
  mask?: Picture;
  /**
   * Whether to draw at the trained size with the nearest aspect ratio and fit the picture to the size that was asked for, as diffusers
   * does: true for a PixArt model of 256, 512, 1024 or (sigma) 2048 pixels, which have such sizes, unless it begins at an image.
   */
  useResolutionBinning?: boolean;
}

/** What a call gives. */
export type OutputType = "image" | "latent";

export interface TextToImageResult extends PictureResult {
  /** [images, channels, height, width], scaled as the denoiser has them: with `outputType: "latent"`, instead of images. */
  latents?: FloatTensor;
  /** What a user should know: a prompt that was cut, words that the model never saw. */
  warnings: string[];
}

/** More than any checkpoint was trained with. */
const MOST_TOKENS = 4096;
/** More layers than any text encoder has. */
const MOST_LAYERS = 1000;
/** Of a size that an image is to look like it has. */
const MOST_SIDE = 65535;
/** Scores that refiners were trained with go up to 10. */
const MOST_SCORE = 100;

const pair: Check = listOf(whole(0, MOST_SIDE), { least: 2, most: 2 });

const pictureOrLatents: Check = (value, name) =>
  isLatents(value) ? checkLatents(value, name) : checkPicture(value, name);

export const textToImageOptions: OptionTable<TextToImageOptions> = {
  ...pictureOptions,
  negativePrompt: promptCheck,
  prompt2: promptCheck,
  negativePrompt2: promptCheck,
  prompt3: promptCheck,
  negativePrompt3: promptCheck,
  count: countCheck,
  width: sideCheck,
  height: sideCheck,
  guidanceRescale: number(0, 1),
  image: pictureOrLatents,
  outputType: oneOf(["image", "latent"]),
  strength: strengthCheck,
  mask: checkPicture,
  maxSequenceLength: whole(2, MOST_TOKENS),
  cleanCaption: flag,
  clipSkip: whole(0, MOST_LAYERS),
  promptWeights: flag,
  originalSize: pair,
  cropsCoordsTopLeft: pair,
  targetSize: pair,
  negativeOriginalSize: pair,
  negativeCropsCoordsTopLeft: pair,
  negativeTargetSize: pair,
  aestheticScore: number(0, MOST_SCORE),
  negativeAestheticScore: number(0, MOST_SCORE),
  denoisingStart: shareCheck,
  denoisingEnd: shareCheck,
  useResolutionBinning: flag,
};

const XL = "Stable Diffusion XL";
const REFINER = "refiners of Stable Diffusion XL";

/** By what other families are called, for the error. */
const ofFamilies: Readonly<Record<FamilyOption, string>> = {
  maxSequenceLength: "PixArt and Stable Diffusion 3",
  cleanCaption: "PixArt",
  clipSkip: "Stable Diffusion",
  promptWeights: "Stable Diffusion 1, 2 and XL",
  prompt2: "Stable Diffusion XL and 3",
  negativePrompt2: "Stable Diffusion XL and 3",
  prompt3: "Stable Diffusion 3",
  negativePrompt3: "Stable Diffusion 3",
  originalSize: XL,
  cropsCoordsTopLeft: XL,
  targetSize: XL,
  negativeOriginalSize: XL,
  negativeCropsCoordsTopLeft: XL,
  negativeTargetSize: XL,
  aestheticScore: REFINER,
  negativeAestheticScore: REFINER,
  denoisingStart: XL,
  denoisingEnd: XL,
};

/** Throws ArgumentError for a setting that this model does not have. */
export function checkFamilyOptions(
  className: string,
  { takes }: Pick<TextToImageFamily, "takes">,
  options: FamilyOptions,
): void {
  for (const [name, of] of Object.entries(ofFamilies) as [FamilyOption, string][]) {
    if (options[name] === undefined || takes.includes(name)) continue;
    const article = /^[AEIOU]/.test(className) ? "an" : "a";
    throw new ArgumentError(`${name} is for ${of}; this model is ${article} ${className}.`);
  }
}

/** The prompts of a call, and what the encoders are given of them. Throws ArgumentError for lists that do not go together. */
export function textsOf(
  prompt: string | readonly string[],
  options: Pick<TextToImageOptions, "negativePrompt" | `${"prompt" | "negativePrompt"}${2 | 3}`>,
  { count, guided }: { count: number; guided: boolean },
): { list: PromptList; texts: Texts } {
  const { negativePrompt, prompt2, negativePrompt2, prompt3, negativePrompt3 } = options;
  const negative = negativePrompt ?? "";
  promptCheck(prompt, "The prompt");
  const others = { second: [prompt2, negativePrompt2], third: [prompt3, negativePrompt3] } as const;
  const negativesGiven = [negative, negativePrompt2 ?? negative, negativePrompt3 ?? negative];
  const [prompts, negatives] = [
    [prompt].flat().length,
    Math.max(...negativesGiven.map((each) => [each].flat().length)),
  ];
  const list = promptList(prompt, repeated(negative, negatives), { count, guided });
  const texts: Texts = { texts: list.texts, negatives: negativesOf(list), omitted: negativePrompt === undefined };
  const more = Object.entries(others).flatMap(([encoder, [own, ownNegative]], i) => {
    if (own === undefined && ownNegative === undefined) return [];
    const given = [repeated(own ?? prompt, prompts), repeated(ownNegative ?? negative, negatives)] as const;
    const { texts } = promptList(...given, { count, guided });
    if (texts.length === list.texts.length) return [[encoder, texts]];
    throw new ArgumentError(
      `prompt${i + 2} has ${[own].flat().length} prompts and there are ${prompts}; give one for all, or one for each.`,
    );
  });
  return { list, texts: { ...texts, ...Object.fromEntries(more) } };
}

/** They come before the prompts. */
const negativesOf = ({ negatives, prompts }: PromptList): number => (negatives ? prompts[0]! : 0);

function repeated(given: string | readonly string[], count: number): readonly string[] {
  const list = [given].flat();
  return list.length === 1 ? new Array<string>(count).fill(list[0]!) : list;
}
