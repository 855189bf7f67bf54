/**
 * emoji-align as a judge: how it sees images and captions, and the real images that generated ones are compared with.
 */

import { expectObject, type Folder } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { Component } from "../components/components.ts";
import { expected } from "../components/expected-class.ts";
import { openPipeline } from "../components/pipeline-index.ts";
import { PromptTokenizer } from "../components/prompts.ts";
import { CheckpointError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { type EmojiAlignConfig, emojiAlign } from "../models/emoji-align.ts";
import { readOptions } from "../options/options.ts";
import { releaseAll } from "../runtime/open-all.ts";
import { type Runtime, type SessionOptions, sessionOptions } from "../runtime/runtime.ts";
import { rows } from "../sampling/guidance.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../tensor.ts";
import { resizeArea } from "./resize.ts";

/** A caption that a model gets as a prompt, and by which its image must be found again. */
export interface ReferenceCaption {
  readonly text: string;
  /** The row of the picture that it was taken from. */
  readonly picture: number;
  /** Rows of all pictures that have it as one of their captions. */
  readonly belongsTo: readonly number[];
}

/** One row a picture. */
export interface JudgedPictures {
  /**
   * The judge's features of an image, before they are compared with captions. The Fréchet distance is computed on
   * these.
   */
  readonly features: FloatTensor;
  /** Directions in the space of the captions, of length 1. */
  readonly embeds: FloatTensor;
}

/** Captions with the real pictures of them: what a judge compares pictures with. */
export interface Reference {
  readonly captions: readonly ReferenceCaption[];
  readonly real: JudgedPictures;
  /** What the embedded model's autoencoder makes of the real pictures. */
  readonly roundTrip: JudgedPictures;
}

export const judgeClass = "EmojiAlignPipeline";
/** Images that are embedded together: enough to keep all threads busy. */
const BATCH = 32;

/** A small text-image model that compares pictures with captions and with reference pictures. */
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
  static async open(folder: Folder, runtime: Runtime, given: SessionOptions = {}): Promise<Judge> {
    const options = readOptions(given, sessionOptions, { of: "Judge.open" });
    await openPipeline(folder, [judgeClass]);
    const open = (network: "image" | "text") =>
      Component.open(folder.sub("model"), expected(emojiAlign[network]), runtime, options);
    return new Judge(
      folder,
      await open("image"),
      await open("text"),
      await PromptTokenizer.open(folder.sub("tokenizer")),
    );
  }

  /** Pictures of any size. */
  async judgePictures(pictures: readonly Picture[]): Promise<JudgedPictures> {
    const { imageSize, projectionWidth } = this.#image.config;
    const session = await this.#image.session({ batch: "batch" });
    const features = floatTensor([pictures.length, this.#featureWidth]);
    const embeds = floatTensor([pictures.length, projectionWidth]);
    const each = 3 * imageSize * imageSize;
    for (let start = 0; start < pictures.length; start += BATCH) {
      const end = Math.min(start + BATCH, pictures.length);
      const pixelValues = floatTensor([end - start, 3, imageSize, imageSize]);
      pictures.slice(start, end).forEach((picture, i) => {
        writePixels(resizeArea(picture, imageSize, imageSize), pixelValues.data.subarray(i * each, (i + 1) * each));
      });
      const into = { imageFeatures: rows(features, start, end), imageEmbeds: rows(embeds, start, end) };
      await session.run({ pixelValues }, into);
    }
    return { features, embeds };
  }

  /** One row of length 1 a caption. */
  async embedCaptions(captions: readonly string[]): Promise<FloatTensor> {
    const { maxTokens, projectionWidth } = this.#text.config;
    const session = await this.#text.session({ batch: "batch" });
    const textEmbeds = floatTensor([captions.length, projectionWidth]);
    for (let start = 0; start < captions.length; start += BATCH) {
      const encoded = captions.slice(start, start + BATCH).map((caption) => this.#tokenizer.encode(caption, maxTokens));
      const shape = [encoded.length, maxTokens];
      const feeds = {
        inputIds: int64Tensor(
          shape,
          encoded.flatMap(({ ids }) => ids),
        ),
        attentionMask: floatTensor(shape, Float32Array.from(encoded.flatMap(({ mask }) => mask))),
      };
      await session.run(feeds, { textEmbeds: rows(textEmbeds, start, start + encoded.length) });
    }
    return textEmbeds;
  }

  /** The captions and features that come with the judge. Throws CheckpointError if they do not fit together. */
  async reference(): Promise<Reference> {
    const folder = this.#folder.sub("reference");
    const file = await SafetensorsFile.open(await folder.source("features.safetensors"));
    const [real, roundTrip] = [await file.read("real"), await file.read("round_trip")] as [FloatTensor, FloatTensor];
    const pictures = real.shape[0]!;
    for (const { shape } of [real, roundTrip]) {
      if (shape.length === 2 && shape[0] === pictures && shape[1] === this.#featureWidth) continue;
      throw new CheckpointError(
        `${folder.name}/features.safetensors: [${shape.join(", ")}] are no features of ${pictures} pictures ` +
          `with ${this.#featureWidth} numbers each.`,
      );
    }
    return {
      captions: readCaptions(await folder.json("captions.json"), pictures, `${folder.name}/captions.json`),
      real: { features: real, embeds: await this.#project(real) },
      roundTrip: { features: roundTrip, embeds: await this.#project(roundTrip) },
    };
  }

  get #featureWidth(): number {
    return this.#image.config.channels.at(-1)!;
  }

  /** The picture tower's last stage, which saves storing its results beside what it reads. */
  async #project(features: FloatTensor): Promise<FloatTensor> {
    const { data: matrix } = (await this.#image.weights.read("image.projection.weight")) as FloatTensor;
    const [count, width] = features.shape as [number, number];
    const embeds = floatTensor([count, this.#image.config.projectionWidth]);
    for (let row = 0; row < count; row++) {
      const feature = features.data.subarray(row * width, (row + 1) * width);
      const embed = rows(embeds, row, row + 1).data;
      for (let i = 0; i < embed.length; i++) {
        embed[i] = feature.reduce((sum, value, j) => sum + value * matrix[i * width + j]!, 0);
      }
      const length = Math.hypot(...embed);
      embed.forEach((value, i) => {
        embed[i] = value / length;
      });
    }
    return embeds;
  }

  /** Frees memory and threads. */
  release(): Promise<void> {
    return releaseAll([this.#image, this.#text]);
  }
}

/** 8-bit pixels, row by row, to three planes in [-1, 1]. */
function writePixels({ data }: Picture, out: Float32Array): void {
  const area = out.length / 3;
  for (let p = 0; p < area; p++) for (let c = 0; c < 3; c++) out[c * area + p] = data[3 * p + c]! / 127.5 - 1;
}

function readCaptions(json: unknown, pictures: number, name: string): ReferenceCaption[] {
  const { captions } = expectObject(json, name);
  const isRow = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < pictures;
  const isCaption = (value: unknown) => {
    const { text, picture, belongsTo } = (value ?? {}) as Partial<ReferenceCaption>;
    const has = Array.isArray(belongsTo) && belongsTo.every(isRow) && belongsTo.includes(picture!);
    return typeof text === "string" && isRow(picture) && has;
  };
  if (!Array.isArray(captions) || captions.length === 0 || !captions.every(isCaption)) {
    throw new CheckpointError(
      `${name}: it has no list of captions with their pictures, of which there are ${pictures}.`,
    );
  }
  return captions as ReferenceCaption[];
}
