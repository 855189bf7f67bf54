/** What a decoder makes of pictures that it never saw, beside what the small one makes of them. */
import { writeFile } from "node:fs/promises";
import sharp from "sharp";
import { toOnnx } from "../src/graph/onnx.ts";
import { contactSheet, encodePng, type Picture, toPictures } from "../src/media/picture.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import * as vae from "../src/models/autoencoder-kl.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { type FloatTensor, sizeOf, type Tensor } from "../src/tensor.ts";
import { Parameters } from "../src/training/parameters.ts";
import { readAutoencoder } from "./latents.ts";

// One core, as everything else here.
sharp.concurrency(1);

/** Latents [count, 16, 8, 8] as pictures, one after the other. */
export async function openDecoder(config: vae.AutoencoderKLConfig) {
  const decoder = vae.decoder(config, { batch: 1, height: 8, width: 8 });
  const { decoded } = buildModel(decoder, parameterWeights().source);
  const session = await nodeRuntime.compile(toOnnx({ decoded: decoded! }), new Map(), { threads: 1, spin: false });
  return async ({ shape, data }: FloatTensor, weights: Readonly<Record<string, Tensor>>): Promise<Picture[]> => {
    const each = sizeOf(shape.slice(1));
    const pictures: Picture[] = [];
    for (let i = 0; i < shape[0]!; i++) {
      const one = data.subarray(i * each, (i + 1) * each);
      const latent: FloatTensor = { dtype: "float32", shape: [1, ...shape.slice(1)], data: one };
      const outputs = await session.run({ ...weights, latent });
      pictures.push(...toPictures(outputs["decoded"] as FloatTensor));
    }
    return pictures;
  };
}

/** What an autoencoder's own decoder makes of the latents, enlarged to `size` with Lanczos. */
export async function enlarged(folder: string, latents: FloatTensor, size: number): Promise<Picture[]> {
  const { config, file } = await readAutoencoder(folder);
  const parameters = new Parameters(weightShapes(vae.decoder(config, { batch: 1, height: 8, width: 8 })));
  await parameters.load((name) => file.read(name));
  const small = await (await openDecoder(config))(latents, parameters.tensors());
  return Promise.all(
    small.map(async ({ width, height, data }) => {
      const raw = sharp(data, { raw: { width, height, channels: 3 } });
      const pixels = await raw.resize(size, size, { kernel: "lanczos3" }).raw().toBuffer();
      return { width: size, height: size, data: new Uint8Array(pixels) };
    }),
  );
}

/** Rows of real, before and now, two emoji beside each other. */
export async function writeSheet(file: string, columns: readonly (readonly Picture[])[], count = 12): Promise<void> {
  const every = Math.floor(columns[0]!.length / count);
  const shown = Array.from({ length: count }, (_, i) => columns.map((pictures) => pictures[i * every]!)).flat();
  await writeFile(file, encodePng(contactSheet(shown, 2 * columns.length)));
}
