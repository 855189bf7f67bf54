/** emoji-align as a judge: pictures and captions to embeddings, and the real pictures that generated ones are held against. */

import { expectObject, type Folder } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { CheckpointError } from "../errors.ts";
import { type EmojiAlignConfig, emojiAlign } from "../models/emoji-align.ts";
import { Component, openPipeline } from "../pipelines/components.ts";
import type { Picture } from "../pipelines/picture.ts";
import { PromptTokenizer } from "../pipelines/prompts.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../tensor.ts";
import { resizeArea } from "./resize.ts";

/** A caption that a model is asked for, and by which its picture is to be found again. */
export interface ReferenceCaption {
  readonly text: string;
  /** The row of the picture that it was taken from. */
  readonly picture: number;
  /** Rows of all pictures that have it as one of their captions. */
  readonly belongsTo: readonly number[];
}

export interface Reference {
  readonly captions: readonly ReferenceCaption[];
  /** Embeddings of the real pictures, and of what the embedded model's autoencoder makes of them: [pictures, width]. */
  readonly real: FloatTensor;
  readonly roundTrip: FloatTensor;
}

export const judgeClass = "EmojiAlignPipeline";
/** Embedded together: enough to keep all threads busy. */
const BATCH = 32;

export class Judge {
  readonly #folder: Folder;
  readonly #image: Component<EmojiAlignConfig>;
  readonly #text: Component<EmojiAlignConfig>;
  readonly #tokenizer: PromptTokenizer;

  private constructor(
    folder: Folder,
    image: Component<EmojiAlignConfig>,
    text: Component<EmojiAlignConfig>,
    tokenizer: PromptTokenizer,
  ) {
    this.#folder = folder;
    this.#image = image;
    this.#text = text;
    this.#tokenizer = tokenizer;
  }

  /** Throws CheckpointError and ConfigError for a folder that is no judge. */
  static async open(folder: Folder, runtime: Runtime, options: SessionOptions = {}): Promise<Judge> {
    await openPipeline(folder, [judgeClass]);
    const open = (network: "image" | "text") =>
      Component.open(folder.sub("model"), () => emojiAlign[network], runtime, options);
    return new Judge(
      folder,
      await open("image"),
      await open("text"),
      await PromptTokenizer.open(folder.sub("tokenizer")),
    );
  }

  /** One row of length 1 a picture, of any size. */
  async embedPictures(pictures: readonly Picture[]): Promise<FloatTensor> {
    const { imageSize, projectionWidth } = this.#image.config;
    const session = await this.#image.session({ batch: "batch" });
    return inBatches(pictures, projectionWidth, async (some) => {
      const pixelValues = floatTensor([some.length, 3, imageSize, imageSize]);
      const each = 3 * imageSize * imageSize;
      some.forEach((picture, i) => {
        writePixels(resizeArea(picture, imageSize, imageSize), pixelValues.data.subarray(i * each, (i + 1) * each));
      });
      return (await session.run({ pixelValues }))["imageEmbeds"] as FloatTensor;
    });
  }

  /** One row of length 1 a caption. */
  async embedCaptions(captions: readonly string[]): Promise<FloatTensor> {
    const { maxTokens, projectionWidth } = this.#text.config;
    const session = await this.#text.session({ batch: "batch" });
    return inBatches(captions, projectionWidth, async (some) => {
      const encoded = some.map((caption) => this.#tokenizer.encode(caption, maxTokens));
      const shape = [some.length, maxTokens];
      const feeds = {
        inputIds: int64Tensor(
          shape,
          encoded.flatMap(({ ids }) => ids),
        ),
        attentionMask: floatTensor(shape, Float32Array.from(encoded.flatMap(({ mask }) => mask))),
      };
      return (await session.run(feeds))["textEmbeds"] as FloatTensor;
    });
  }

  /** The captions and embeddings that come with the judge. Throws CheckpointError if they do not fit together. */
  async reference(): Promise<Reference> {
    const folder = this.#folder.sub("reference");
    const name = `${folder.name}/captions.json`;
    const { captions } = expectObject(await folder.json("captions.json"), name);
    const file = await SafetensorsFile.open(await folder.source("features.safetensors"));
    const [real, roundTrip] = [await file.read("real"), await file.read("round_trip")] as [FloatTensor, FloatTensor];
    const pictures = real.shape[0]!;
    for (const { shape } of [real, roundTrip]) {
      if (shape.length === 2 && shape[0] === pictures && shape[1] === this.#image.config.projectionWidth) continue;
      throw new CheckpointError(
        `${folder.name}/features.safetensors: [${shape.join(", ")}] are no embeddings of ${pictures} pictures ` +
          `with ${this.#image.config.projectionWidth} numbers each.`,
      );
    }
    const isRow = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < pictures;
    const isCaption = (value: unknown) => {
      const { text, picture, belongsTo } = (value ?? {}) as Partial<ReferenceCaption>;
      return (
        typeof text === "string" &&
        isRow(picture) &&
        Array.isArray(belongsTo) &&
        belongsTo.every(isRow) &&
        belongsTo.includes(picture!)
      );
    };
    if (!Array.isArray(captions) || captions.length === 0 || !captions.every(isCaption)) {
      throw new CheckpointError(
        `${name}: it has no list of captions with their pictures, of which there are ${pictures}.`,
      );
    }
    return { captions: captions as ReferenceCaption[], real, roundTrip };
  }

  async release(): Promise<void> {
    await Promise.all([this.#image.release(), this.#text.release()]);
  }
}

/** 8-bit pixels, row by row, to three planes in [-1, 1]. */
function writePixels({ data }: Picture, out: Float32Array): void {
  const area = out.length / 3;
  for (let p = 0; p < area; p++) for (let c = 0; c < 3; c++) out[c * area + p] = data[3 * p + c]! / 127.5 - 1;
}

async function inBatches<T>(
  items: readonly T[],
  width: number,
  embed: (some: readonly T[]) => Promise<FloatTensor>,
): Promise<FloatTensor> {
  const all = floatTensor([items.length, width]);
  for (let start = 0; start < items.length; start += BATCH) {
    const { data } = await embed(items.slice(start, start + BATCH));
    all.data.set(data, start * width);
  }
  return all;
}
