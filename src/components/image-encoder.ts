/** A picture as CLIP sees it, with the preparation that Stable Video Diffusion's pipeline gives it. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { resizeWithAntialiasing } from "../media/resample.ts";
import { type CLIPVisionConfig, clipVisionWithProjection } from "../models/clip-vision.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import { Component } from "./components.ts";
import { expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { STREAM_ABOVE } from "./prompt-encoder.ts";

/** Of CLIP's training pictures, channel by channel in [0, 1]. */
const CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD = [0.26862954, 0.26130258, 0.27577711];

export interface Normalisation {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** `image_mean` and `image_std` of a preprocessor_config.json; CLIP's where the file does not say. Throws CheckpointError. */
export function readNormalisation(config: RawConfig, name: string): Normalisation {
  const three = (key: string, fallback: readonly number[]) => {
    const value = config[key] ?? fallback;
    const fine = Array.isArray(value) && value.length === 3 && value.every((item) => Number.isFinite(item));
    if (fine) return value as number[];
    throw new CheckpointError(`${name}: "${key}" is ${JSON.stringify(value)}; expected three numbers.`);
  };
  return { mean: three("image_mean", CLIP_MEAN), std: three("image_std", CLIP_STD) };
}

/** CLIP's image encoder with its preprocessing: a picture to the embedding that conditions a video. */
export class ImageEncoder {
  /** What it gives of a picture, as a text encoder gives tokens. */
  readonly tokens = 1;
  readonly #vision: Component<CLIPVisionConfig>;
  readonly #normalisation: Normalisation;

  private constructor(vision: Component<CLIPVisionConfig>, normalisation: Normalisation) {
    this.#vision = vision;
    this.#normalisation = normalisation;
  }

  /** `image_encoder/` and `feature_extractor/` of a pipeline's folder. Throws CheckpointError and ConfigError. */
  static async open(folder: Folder, runtime: Runtime, options: PipelineOptions = {}): Promise<ImageEncoder> {
    const vision = await Component.open(
      folder.sub("image_encoder"),
      expected(clipVisionWithProjection),
      runtime,
      options,
      {
        streamAbove: STREAM_ABOVE,
      },
    );
    const extractor = folder.sub("feature_extractor");
    const file = "preprocessor_config.json";
    const config = (await extractor.has(file)) ? ((await extractor.json(file)) as RawConfig) : {};
    return new ImageEncoder(vision, readNormalisation(config, `${extractor.name}/${file}`));
  }

  /** [1, 1, projection width], not normalised. */
  async embed(picture: Picture): Promise<FloatTensor> {
    const session = await this.#vision.session({ batch: 1 });
    const { shape, data } = floatOf(await session.run({ pixelValues: this.pixelValues(picture) }), "imageEmbeds");
    return floatTensor([1, 1, shape[1]!], data);
  }

  /** What the network is given: [1, 3, imageSize, imageSize]. The whole picture, whatever its sides. */
  pixelValues({ width, height, data }: Picture): FloatTensor {
    const { imageSize } = this.#vision.config;
    const { mean, std } = this.#normalisation;
    const area = width * height;
    const planes = Float32Array.from(
      { length: 3 * area },
      (_, i) => data[3 * (i % area) + Math.floor(i / area)]! / 127.5 - 1,
    );
    const resized = resizeWithAntialiasing(floatTensor([1, 3, height, width], planes), imageSize, imageSize);
    const each = imageSize * imageSize;
    const values = resized.data.map((value, i) => {
      const channel = Math.floor(i / each);
      return ((value + 1) / 2 - mean[channel]!) / std[channel]!;
    });
    return floatTensor(resized.shape, values);
  }

  /** Frees memory and threads. */
  release(): Promise<void> {
    return this.#vision.release();
  }
}
