/** The text side of AnimateDiff's pipelines: one encoder, CLIP's or T5's, or the two of Stable Diffusion XL. */
import { componentFolder, type ModelIndex, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ClipPromptEncoder, plannedEncoders } from "../components/clip-prompt-encoder.ts";
import { expected } from "../components/expected-class.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { openPromptEncoder, type PromptEncoder } from "../components/prompt-encoder.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "../models/architecture.ts";
import { clipText } from "../models/clip-text.ts";
import { t5 } from "../models/t5.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { StableDiffusionXLText } from "./stable-diffusion-xl-text.ts";
import type { EmbedOptions, TextConditions, TextEmbeddings, Texts } from "./text-to-image-family.ts";

/** `xl`: whether the denoiser is told of pooled text and sizes. Throws ConfigError for encoders that are neither CLIP's nor T5's. */
export async function openVideoText(
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
  { xl }: { xl: boolean },
): Promise<TextConditions> {
  if (xl) return StableDiffusionXLText.open(folder, index, runtime, options);
  if (await isClip(folder, index)) {
    return clipConditions(folder.name, await ClipPromptEncoder.open(folder, index, "", clipText, runtime, options));
  }
  return t5Conditions(folder.name, await openPromptEncoder(folder, index, runtime, options));
}

async function isClip(folder: Folder, index: ModelIndex): Promise<boolean> {
  if (!index.components.has("text_encoder")) return false;
  const encoder = componentFolder(folder, index, "text_encoder");
  const choose = expected<unknown>(clipText as Architecture<unknown>, t5 as Architecture<unknown>);
  return choose(await readConfig(encoder), encoder.name) === clipText;
}

/** What the denoiser is told of is the states alone. */
const conditions = (embeddings: TextEmbeddings): Feeds => embeddings;

const withoutEncoder = (name: string) =>
  new ConfigError(`${name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);

const clipConditions = (name: string, encoder: ClipPromptEncoder | null): TextConditions => ({
  encoders: plannedEncoders("last", [encoder]),
  takes: ["clipSkip", "promptWeights"],
  maxSequenceLength: encoder?.tokens ?? 77,
  async embed({ texts, negatives }: Texts, { clipSkip: skip, promptWeights: weighted, signal, budget }: EmbedOptions) {
    if (!encoder) throw withoutEncoder(name);
    const settings = { states: "last", skip, weighted, negatives, signal, budget } as const;
    const { states, warnings } = await encoder.embed(texts, settings);
    return { embeddings: { encoderHiddenStates: states }, warnings };
  },
  conditions,
});

const t5Conditions = (name: string, encoder: PromptEncoder | null): TextConditions => ({
  encoders: encoder ? [encoder] : [],
  takes: [],
  maxSequenceLength: encoder?.tokens ?? 77,
  async embed({ texts }: Texts, { signal, budget }: EmbedOptions) {
    if (!encoder) throw withoutEncoder(name);
    const { embeddings, warnings } = await encoder.embed(texts, { signal, budget });
    return { embeddings: { encoderHiddenStates: embeddings }, warnings };
  },
  conditions,
});
