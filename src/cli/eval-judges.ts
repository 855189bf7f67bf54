/** Metrics of `halfstep eval` with networks that the user provides: CLIP score and FID. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { platform } from "#platform";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { readPicture } from "../media/picture-node.ts";
import { ClipJudge, clipScore } from "../metrics/clip-score.ts";
import { frechetDistanceOf } from "../metrics/frechet.ts";
import { Inception } from "../metrics/inception.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { SessionOptions } from "../runtime/runtime.ts";
import { stack } from "../sampling/guidance.ts";
import type { FloatTensor } from "../tensor.ts";

export interface JudgeOptions {
  /** A CLIPModel's folder, or its Hub id. */
  clip?: string;
  /** A folder with pytorch-fid's weights as safetensors, or its Hub id. */
  inception?: string;
  /** A folder of images that FID compares with the model's. */
  real?: string;
}

export interface OwnScores {
  clipScore?: number;
  fid?: number;
  /** How many real images FID was measured with. */
  realPictures?: number;
}

const pictureFile = /\.(png|jpe?g|webp|gif|avif|tiff?)$/i;
/** How many real images are in memory at a time. */
const BATCH = 64;

export class OwnJudges {
  readonly #clip: ClipJudge | null;
  readonly #inception: Inception | null;
  readonly #real: FloatTensor | null;
  #seen: FloatTensor | null = null;
  #embeds: { pictures: FloatTensor; captions: FloatTensor } | null = null;

  private constructor(clip: ClipJudge | null, inception: Inception | null, real: FloatTensor | null) {
    this.#clip = clip;
    this.#inception = inception;
    this.#real = real;
  }

  /**
   * Opens the requested networks, and reads the real images. Throws ArgumentError for one of `inception` and `real` without
   * the other and for a folder of fewer than two images, and passes on the errors of the networks.
   */
  static async open(
    { clip, inception, real }: JudgeOptions,
    session: SessionOptions,
    signal: AbortSignal,
  ): Promise<OwnJudges> {
    if ((inception === undefined) !== (real === undefined)) {
      throw new ArgumentError(
        "--inception and --real go together: FID compares the model's pictures with real ones, as that network sees both.",
      );
    }
    const files = real === undefined ? [] : await picturesIn(real);
    const resolved = (name: string) => platform.resolveModel(name, { signal });
    const clipJudge = clip === undefined ? null : await ClipJudge.open(await resolved(clip), platform.runtime, session);
    if (inception === undefined) return new OwnJudges(clipJudge, null, null);
    const network = await Inception.open(await resolved(inception), platform.runtime, session);
    let features: FloatTensor | null = null;
    for (let start = 0; start < files.length; start += BATCH) {
      const some = await Promise.all(files.slice(start, start + BATCH).map(readPicture));
      features = joined(features, await network.features(some, signal));
    }
    return new OwnJudges(clipJudge, network, features);
  }

  /** For `evaluate`: receives images as they are made, with their captions. */
  readonly see = async (pictures: readonly Picture[], captions: readonly string[]): Promise<void> => {
    if (this.#inception) this.#seen = joined(this.#seen, await this.#inception.features(pictures));
    if (!this.#clip) return;
    this.#embeds = {
      pictures: joined(this.#embeds?.pictures ?? null, await this.#clip.embedPictures(pictures)),
      captions: joined(this.#embeds?.captions ?? null, await this.#clip.embedCaptions(captions)),
    };
  };

  /** The scores of all images so far. */
  scores(): OwnScores {
    return {
      ...(this.#embeds && { clipScore: clipScore(this.#embeds.pictures, this.#embeds.captions) }),
      ...(this.#seen &&
        this.#real && { fid: frechetDistanceOf(this.#seen, this.#real), realPictures: this.#real.shape[0]! }),
    };
  }

  async release(): Promise<void> {
    await releaseAll([this.#clip, this.#inception]);
  }
}

async function picturesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((cause) => {
    throw new ArgumentError(`--real ${folder}: cannot be read: ${(cause as Error).message}`, { cause });
  });
  const files = names.filter((name) => pictureFile.test(name)).sort();
  if (files.length > 1) return files.map((name) => join(folder, name));
  throw new ArgumentError(`--real ${folder}: has ${files.length} pictures; a Fréchet distance needs at least two.`);
}

const joined = (before: FloatTensor | null, more: FloatTensor) => (before ? stack(before, more) : more);

/** The scores as lines of text. */
export function describeOwnScores({ clipScore: score, fid, realPictures }: OwnScores, samples: number): string[] {
  return [
    ...(score === undefined
      ? []
      : [`CLIP score: ${score.toFixed(2)} (100 times the mean cosine of picture and caption)`]),
    ...(fid === undefined
      ? []
      : [
          `FID: ${fid.toFixed(2)} (${samples} pictures against ${realPictures} real ones; published ones are of 10,000 to ` +
            "50,000, and with fewer the distance is larger)",
        ]),
  ];
}
