/** CLIP score: how well images match their captions, by a CLIP model that the user provides. */
import { type RawConfig, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { Component } from "../components/components.ts";
import { expected } from "../components/expected-class.ts";
import { type Normalisation, readNormalisation } from "../components/image-encoder.ts";
import { PromptTokenizer } from "../components/prompts.ts";
import { ConfigError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { resample } from "../media/resample.ts";
import { clip } from "../models/clip.ts";
import type { CLIPTextConfig } from "../models/clip-text.ts";
import type { CLIPVisionConfig } from "../models/clip-vision.ts";
import { networksOf } from "../models/registry.ts";
import { readOptions } from "../options/options.ts";
import { releaseAll } from "../runtime/open-all.ts";
import { type Runtime, type SessionOptions, sessionOptions } from "../runtime/runtime.ts";
import { rows } from "../sampling/guidance.ts";
import { type FloatTensor, floatOf, floatTensor, int64Tensor } from "../tensor.ts";
import { alignmentScore } from "./alignment.ts";

const BATCH = 16;

/**
 * 100 times the mean cosine between each picture and its own caption, row i of both, and 0 where that is less: torchmetrics'
 * CLIPScore (Hessel et al. 2021, arXiv 2104.08718, have 2.5 in place of 100, and a prefix to the captions).
 */
export function clipScore(pictures: FloatTensor, captions: FloatTensor): number {
  return Math.max(0, 100 * alignmentScore(pictures, captions));
}

/** A CLIP model that says how well pictures fit prompts. */
export class ClipJudge {
  readonly #image: Component<CLIPVisionConfig>;
  readonly #text: Component<CLIPTextConfig>;
  readonly #tokenizer: PromptTokenizer;
  readonly #normalisation: Normalisation;

  private constructor(
    image: Component<CLIPVisionConfig>,
    text: Component<CLIPTextConfig>,
    tokenizer: PromptTokenizer,
    normalisation: Normalisation,
  ) {
    this.#image = image;
    this.#text = text;
    this.#tokenizer = tokenizer;
    this.#normalisation = normalisation;
  }

  /**
   * A folder of transformers' CLIPModel, as `openai/clip-vit-base-patch32`: config.json, model.safetensors, tokenizer and
   * preprocessor_config.json in one. Throws CheckpointError and ConfigError.
   */
  static async open(folder: Folder, runtime: Runtime, given: SessionOptions = {}): Promise<ClipJudge> {
    const options = readOptions(given, sessionOptions, { of: "ClipJudge.open" });
    const config = await readConfig(folder);
    const networks = networksOf(config);
    if (networks["text"] !== clip.text) {
      const [architecture] = Object.values(networks);
      throw new ConfigError(
        `${folder.name}: a CLIP score needs a ${clip.text.className}, not a ${architecture!.className}.`,
      );
    }
    const file = "preprocessor_config.json";
    const processor = (await folder.has(file)) ? ((await folder.json(file)) as RawConfig) : {};
    return new ClipJudge(
      await Component.open(folder, expected(clip.image), runtime, options),
      await Component.open(folder, expected(clip.text), runtime, options),
      await PromptTokenizer.open(folder),
      readNormalisation(processor, `${folder.name}/${file}`),
    );
  }

  /** One row of length 1 a picture, of any size. */
  async embedPictures(pictures: readonly Picture[], signal?: AbortSignal): Promise<FloatTensor> {
    const { imageSize, projectionWidth } = this.#image.config;
    const session = await this.#image.session({ batch: "batch" });
    const embeds = floatTensor([pictures.length, projectionWidth]);
    const each = 3 * imageSize ** 2;
    for (let start = 0; start < pictures.length; start += BATCH) {
      signal?.throwIfAborted();
      const some = pictures.slice(start, start + BATCH);
      const pixelValues = floatTensor([some.length, 3, imageSize, imageSize]);
      for (const [i, picture] of some.entries()) pixelValues.data.set(this.pixelValues(picture), i * each);
      const { data } = floatOf(await session.run({ pixelValues }), "imageEmbeds");
      embeds.data.set(data, start * projectionWidth);
    }
    return normalised(embeds);
  }

  /** One row of length 1 a caption; what does not fit into CLIP's 77 tokens is left out. */
  async embedCaptions(captions: readonly string[], signal?: AbortSignal): Promise<FloatTensor> {
    const { maxPositions, projectionWidth } = this.#text.config;
    const tokens = Math.min(maxPositions, this.#tokenizer.maxLength);
    const session = await this.#text.session({ batch: "batch", tokens });
    const embeds = floatTensor([captions.length, projectionWidth]);
    for (let start = 0; start < captions.length; start += BATCH) {
      signal?.throwIfAborted();
      const some = captions.slice(start, start + BATCH).map((caption) => this.#tokenizer.encode(caption, tokens));
      const ids = some.flatMap((encoded) => encoded.ids);
      const { data } = floatOf(await session.run({ inputIds: int64Tensor([some.length, tokens], ids) }), "textEmbeds");
      embeds.data.set(data, start * projectionWidth);
    }
    return normalised(embeds);
  }

  /**
   * A picture as transformers' CLIPImageProcessor prepares it, [3, imageSize, imageSize]: the shorter side brought to that
   * size, its middle cut out, less the mean and over the deviation of CLIP's pictures.
   */
  pixelValues(picture: Picture): Float32Array {
    const size = this.#image.config.imageSize;
    const { mean, std } = this.#normalisation;
    const [width, height] = fitted(picture, size);
    const { data } = resample(picture, width, height, "bicubic");
    const [left, top] = [Math.floor((width - size) / 2), Math.floor((height - size) / 2)];
    return Float32Array.from({ length: 3 * size * size }, (_, i) => {
      const [channel, place] = [Math.floor(i / (size * size)), i % (size * size)];
      const pixel = (top + Math.floor(place / size)) * width + left + (place % size);
      return (data[3 * pixel + channel]! / 255 - mean[channel]!) / std[channel]!;
    });
  }

  /** Frees memory and threads. */
  release(): Promise<void> {
    return releaseAll([this.#image, this.#text]);
  }
}

/** Width and height with the shorter of `size`; the longer loses what is less than a pixel. */
function fitted({ width, height }: Picture, size: number): [number, number] {
  return width <= height ? [size, Math.floor((size * height) / width)] : [Math.floor((size * width) / height), size];
}

/** Every row over its length, in place. */
function normalised(tensor: FloatTensor): FloatTensor {
  for (let row = 0; row < tensor.shape[0]!; row++) {
    const { data } = rows(tensor, row, row + 1);
    const length = Math.hypot(...data);
    for (let i = 0; i < data.length; i++) data[i] = data[i]! / length;
  }
  return tensor;
}
