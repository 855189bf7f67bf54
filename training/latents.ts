/** The pictures as the trained autoencoder codes them, once for all of the transformer's training. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseJson } from "../src/checkpoints/files.ts";
import { fileSource } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { toOnnx } from "../src/graph/onnx.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import * as vae from "../src/models/autoencoder-kl.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import type { SessionOptions } from "../src/runtime/runtime.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";
import { Parameters } from "../src/training/parameters.ts";
import { type EmojiData, imageSize, writeImage } from "./data.ts";

export interface Latents {
  /** Of every picture: posterior mean and standard deviation, [count, channels, size, size]. */
  mean: FloatTensor;
  std: FloatTensor;
  /** The same of the mirrored pictures. */
  flippedMean: FloatTensor;
  flippedStd: FloatTensor;
}

/** Reads an autoencoder folder (config.json, weights) with its weights in memory. */
export async function readAutoencoder(folder: string) {
  const raw = parseJson(await readFile(join(folder, "config.json"), "utf8"), folder) as Record<string, unknown>;
  const file = await SafetensorsFile.open(await fileSource(join(folder, "diffusion_pytorch_model.safetensors")));
  return { raw, config: vae.parseConfig(raw), file };
}

async function compileEncoder(folder: string, options: SessionOptions = {}) {
  const { config, file } = await readAutoencoder(folder);
  const encoder = vae.encoder(config, { batch: "batch", height: imageSize, width: imageSize });
  const parameters = new Parameters(weightShapes(encoder));
  await parameters.load((name) => file.read(name));
  const { mean, std } = buildModel(encoder, parameterWeights().source);
  const session = await nodeRuntime.compile(toOnnx({ mean: mean!, std: std! }), new Map(), options);
  return { config, parameters, session };
}

/** Mean and standard deviation, [batch, channels, 8, 8]. */
export interface Posterior {
  mean: FloatTensor;
  std: FloatTensor;
}

/** The encoder of pictures [batch, 3, 64, 64] in an autoencoder's folder. */
export async function openEncoder(folder: string, options: SessionOptions) {
  const { parameters, session } = await compileEncoder(folder, options);
  return async (image: FloatTensor): Promise<Posterior> => {
    const outputs = await session.run({ ...parameters.tensors(), image });
    return { mean: outputs["mean"] as FloatTensor, std: outputs["std"] as FloatTensor };
  };
}

/** Codes every picture and its mirror image. */
export async function encodeAll(folder: string, data: EmojiData): Promise<Latents> {
  const { config, parameters, session } = await compileEncoder(folder);
  const batch = 32;
  const size = imageSize / vae.spatialFactor(config);
  const shape = [data.count, config.latentChannels, size, size];
  const each = config.latentChannels * size * size;
  const latents = {
    mean: floatTensor(shape),
    std: floatTensor(shape),
    flippedMean: floatTensor(shape),
    flippedStd: floatTensor(shape),
  };
  for (let start = 0; start < data.count; start += batch) {
    const count = Math.min(batch, data.count - start);
    for (const flip of [false, true]) {
      const image = floatTensor([count, 3, imageSize, imageSize]);
      const pixels = 3 * imageSize * imageSize;
      for (let i = 0; i < count; i++) {
        const mirror = { flip: true, turns: 0, shiftX: 0, shiftY: 0, hue: 0, saturation: 1, ink: 1 };
        writeImage(data, start + i, image.data.subarray(i * pixels, (i + 1) * pixels), flip ? mirror : undefined);
      }
      const into = (tensor: FloatTensor): FloatTensor => ({
        dtype: "float32",
        shape: [count, ...shape.slice(1)],
        data: tensor.data.subarray(start * each, (start + count) * each),
      });
      await session.run(
        { ...parameters.tensors(), image },
        {
          mean: into(flip ? latents.flippedMean : latents.mean),
          std: into(flip ? latents.flippedStd : latents.std),
        },
      );
    }
  }
  await session.release();
  return latents;
}

/** Mean and standard deviation of each channel over all pictures. */
export function channelStatistics({ shape, data }: FloatTensor): { mean: number[]; std: number[] } {
  const [count, channels, height, width] = shape as [number, number, number, number];
  const area = height * width;
  const mean = new Array<number>(channels).fill(0);
  const square = new Array<number>(channels).fill(0);
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / area) % channels;
    mean[channel]! += data[i]! / (count * area);
    square[channel]! += data[i]! ** 2 / (count * area);
  }
  return { mean, std: square.map((value, i) => Math.sqrt(value - mean[i]! ** 2)) };
}

/**
 * Writes the autoencoder anew with latents of zero mean and unit variance in every channel. The change lives in the two
 * 1x1 convolutions around the latent, so the pictures stay the same and PixArt's scaling_factor is 1.
 */
export async function normaliseLatents(from: string, to: string, { mean, std }: { mean: number[]; std: number[] }) {
  const { raw, config, file } = await readAutoencoder(from);
  const tensors = new Map<string, FloatTensor>();
  for (const name of file.entries.keys()) {
    const { shape, data } = (await file.read(name)) as FloatTensor;
    tensors.set(name, floatTensor(shape, Float32Array.from(data)));
  }
  const channels = config.latentChannels;
  const quantWeight = tensors.get("quant_conv.weight")!.data;
  const quantBias = tensors.get("quant_conv.bias")!.data;
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < 2 * channels; i++) quantWeight[c * 2 * channels + i]! /= std[c]!;
    quantBias[c] = (quantBias[c]! - mean[c]!) / std[c]!;
    // The log-variance of the scaled latent.
    quantBias[channels + c]! -= 2 * Math.log(std[c]!);
  }
  const postWeight = tensors.get("post_quant_conv.weight")!.data;
  const postBias = tensors.get("post_quant_conv.bias")!.data;
  for (let out = 0; out < channels; out++) {
    for (let c = 0; c < channels; c++) {
      postBias[out]! += postWeight[out * channels + c]! * mean[c]!;
      postWeight[out * channels + c]! *= std[c]!;
    }
  }
  await writeSafetensors(join(to, "diffusion_pytorch_model.safetensors"), tensors);
  return { ...raw, scaling_factor: 1 };
}
