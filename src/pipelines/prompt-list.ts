/** One prompt or several, each with a negative prompt, and how many pictures of each. */
import { ArgumentError } from "../errors.ts";
import { MOST_PICTURES } from "../sampling/seeds.ts";
import { promptCheck } from "./settings.ts";

export interface PromptList {
  /** What the text encoder is given, once each: the negative prompts, if any, then the prompts. */
  readonly texts: readonly string[];
  /** Which of the texts each picture is made of: all pictures of the first prompt, then those of the second. */
  readonly prompts: readonly number[];
  /** Which of them each is guided away from; null without guidance. */
  readonly negatives: readonly number[] | null;
}

/** Throws ArgumentError for what is no prompt, for negative prompts that are not as many, and for too many pictures. */
export function promptList(
  prompt: string | readonly string[],
  negativePrompt: string | readonly string[],
  { count, guided }: { count: number; guided: boolean },
): PromptList {
  promptCheck(prompt, "The prompt");
  const prompts = [prompt].flat();
  const negatives = [negativePrompt].flat();
  if (negatives.length !== 1 && negatives.length !== prompts.length) {
    throw new ArgumentError(
      `There are ${negatives.length} negative prompts for ${prompts.length} prompts; give one for all, or one for each.`,
    );
  }
  if (prompts.length * count > MOST_PICTURES) {
    throw new ArgumentError(
      `${prompts.length} prompts x ${count} are more than the ${MOST_PICTURES} that one call makes.`,
    );
  }
  const before = guided ? negatives.length : 0;
  const each = prompts.flatMap((_, i) => new Array<number>(count).fill(i));
  return {
    texts: guided ? [...negatives, ...prompts] : prompts,
    prompts: each.map((i) => before + i),
    negatives: guided ? each.map((i) => (negatives.length === 1 ? 0 : i)) : null,
  };
}
