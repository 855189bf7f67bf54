/** Pictures as InceptionV3 sees them: what published Fréchet Inception distances (FID) are measured on. */
import type { Folder } from "../checkpoints/files.ts";
import { openWeights } from "../checkpoints/weights.ts";
import { Component } from "../components/components.ts";
import { CheckpointError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { resizeBilinear } from "../media/resample.ts";
import { fidInception, INCEPTION_FEATURES, INCEPTION_SIZE } from "../models/fid-inception.ts";
import { readOptions } from "../options/options.ts";
import { type Runtime, type SessionOptions, sessionOptions } from "../runtime/runtime.ts";
import { rows } from "../sampling/guidance.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";

const BATCH = 8;
const PORT = "pt_inception-2015-12-05-6726825d.pth";

/** The Inception network whose features the Fréchet inception distance (FID) compares. */
export class Inception {
  readonly #network: Component<object>;

  private constructor(network: Component<object>) {
    this.#network = network;
  }

  /**
   * A folder with `model.safetensors`: the state dict of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, name for name.
   * Throws CheckpointError, which says how to make it from that file.
   */
  static async open(folder: Folder, runtime: Runtime, given: SessionOptions = {}): Promise<Inception> {
    const options = readOptions(given, sessionOptions, { of: "Inception.open" });
    const weights = await openWeights(folder).catch((cause: Error) => {
      throw new CheckpointError(
        `${folder.name}: has no model.safetensors with the weights of pytorch-fid (${cause.message}) In Python: ` +
          `safetensors.torch.save_file(torch.load("${PORT}"), "model.safetensors").`,
        { cause },
      );
    });
    return new Inception(Component.of(fidInception, {}, weights, runtime, options));
  }

  /** One row of 2048 numbers a picture, of any size: brought to 299 x 299 as pytorch-fid does, without antialiasing. */
  async features(pictures: readonly Picture[], signal?: AbortSignal): Promise<FloatTensor> {
    const session = await this.#network.session({ batch: "batch" });
    const features = floatTensor([pictures.length, INCEPTION_FEATURES]);
    const each = 3 * INCEPTION_SIZE ** 2;
    for (let start = 0; start < pictures.length; start += BATCH) {
      signal?.throwIfAborted();
      const some = pictures.slice(start, start + BATCH);
      const image = floatTensor([some.length, 3, INCEPTION_SIZE, INCEPTION_SIZE]);
      for (const [i, picture] of some.entries()) image.data.set(inceptionInput(picture), i * each);
      await session.run({ image }, { features: rows(features, start, start + some.length) });
    }
    return features;
  }

  /** Frees memory and threads. */
  release(): Promise<void> {
    return this.#network.release();
  }
}

/** [3, 299, 299] in [-1, 1]. */
function inceptionInput({ width, height, data }: Picture): Float32Array {
  const area = width * height;
  const planes = Float32Array.from({ length: 3 * area }, (_, i) => data[3 * (i % area) + Math.floor(i / area)]! / 255);
  const resized = resizeBilinear(floatTensor([1, 3, height, width], planes), INCEPTION_SIZE, INCEPTION_SIZE).data;
  return resized.map((value) => 2 * value - 1);
}
