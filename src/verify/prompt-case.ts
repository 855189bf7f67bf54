/** A text-to-image call from what a user gives: the prompt and the seed, and an image's pixels. */

import { pickPrompts } from "../components/prompts.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { readOptions } from "../options/options.ts";
import type { TextToImagePipeline } from "../pipelines/text-to-image.ts";
import type { TextEmbeddings } from "../pipelines/text-to-image-family.ts";
import { type TextToImageOptions, textsOf, textToImageOptions } from "../pipelines/text-to-image-options.ts";
import { type FloatTensor, sizeOf } from "../tensor.ts";
import { compare, type OutputError, reference } from "./compare.ts";
import type { Call, Io } from "./recorded-call.ts";

/**
 * Of a call that says the prompt: what the text encoders make of it and, where the call runs with the pipeline's own scheduler, the
 * 8-bit images. Nothing for other calls. Throws ArgumentError for arguments that halfstep does not have.
 */
export async function compareFromPrompt(pipe: TextToImagePipeline, call: Call, io: Io): Promise<OutputError[]> {
  // Of some calls the pixels are not stored: `picture` and `mask` are their sizes then. Others go on from the latents of a run.
  const { prompt, scheduler = "scheduler", picture, mask: _, latents_of: run, ...rest } = call;
  if (prompt === undefined || !pipe.family.encoders.some((encoder) => encoder)) return [];
  const prompts = prompt as string | readonly string[];
  const latents = run === undefined ? {} : { image: reference(io, "input.image", "float32") };
  const given = { ...rest, ...picturesOf(io), ...latents };
  const options = readOptions<TextToImageOptions>(given, textToImageOptions, { of: "call.json" });
  const errors = await embeddingErrors(pipe, prompts, options, io);
  if (scheduler !== "scheduler" || picture !== undefined) return errors;
  return [...errors, ...(await imageErrors(pipe, prompts, options, io))];
}

async function embeddingErrors(
  pipe: TextToImagePipeline,
  prompt: string | readonly string[],
  options: TextToImageOptions,
  io: Io,
): Promise<OutputError[]> {
  const { guidanceScale = pipe.guidanceScale, count = 1 } = options;
  const { list, texts } = textsOf(prompt, options, { count, guided: pipe.family.guided(guidanceScale) });
  const { embeddings } = await pipe.family.embed(texts, options);
  const named = (prefix: string, { encoderHiddenStates, textEmbeds, pooledProjections }: TextEmbeddings) => ({
    [`${prefix}prompt_embeds`]: encoderHiddenStates,
    [`${prefix}pooled_prompt_embeds`]: textEmbeds ?? pooledProjections,
  });
  const found: Record<string, FloatTensor | undefined> = {
    ...named("", pickPrompts(embeddings, list.prompts)),
    ...(list.negatives && named("negative_", pickPrompts(embeddings, list.negatives))),
  };
  return Object.entries(found).flatMap(([name, tensor]) => {
    const expected = io.get(`input.${name}`);
    return tensor && expected ? [compare(name, tensor.data, expected.data)] : [];
  });
}

async function imageErrors(
  pipe: TextToImagePipeline,
  prompt: string | readonly string[],
  options: TextToImageOptions,
  io: Io,
): Promise<OutputError[]> {
  if (!io.has("output.image")) return [];
  const { shape, data } = reference(io, "output.image", "float32");
  const { images } = await pipe.generate(prompt, options);
  const [batch, height, width] = shape;
  const [first] = images;
  if (images.length !== batch || first?.height !== height || first?.width !== width) {
    throw new ArgumentError(
      `The call gives ${images.length} images of ${first?.width} x ${first?.height}, the reference has [${shape.join(", ")}].`,
    );
  }
  const pixels = new Uint8Array(sizeOf(shape));
  images.forEach((image, i) => {
    pixels.set(image.data, i * image.data.length);
  });
  // 8-bit values: one of 255 is what rounding may make of the same number.
  return [
    {
      ...compare(
        "images, from the prompt",
        pixels,
        data.map((value) => Math.round(255 * value)),
      ),
      limit: 1,
    },
  ];
}

/** Pixels that the reference began at, and its mask's. */
function picturesOf(io: Io): { image?: Picture; mask?: Picture } {
  const pictureOf = (name: string): Picture | undefined => {
    const tensor = io.get(name);
    if (!tensor) return undefined;
    const { shape, data } = reference(io, name, "uint8");
    const [height = 0, width = 0] = shape;
    return { width, height, data };
  };
  const [image, mask] = ["input.picture", "input.mask_picture"].map(pictureOf);
  return { ...(image && { image }), ...(mask && { mask }) };
}
