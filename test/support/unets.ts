/** The UNets' fixtures: reference vectors of diffusers, made by test/fixtures/unets.py, and the weights that it draws. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { type Geometry, weightShapes } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { drawn } from "./drawn.ts";
import { fixture, tensors } from "./golden.ts";
import { temporaryFolder } from "./models.ts";

export const unets = ["unet-2d", "unet-2d-linear", "unet-motion", "unet-motion-adapter", "unet-svd"];

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** A fixture with its weights in a folder of its own, and its inputs as the model takes them. */
export async function unetCase(name: string) {
  const raw = (await fixture(name).json("config.json")) as RawConfig;
  const io = await tensors(fixture(name));
  const architecture = architectureOf(raw);
  const config = architecture.parseConfig(raw);
  const { shape } = io.get("input.sample")!;
  const [batch, height, width] = [shape[0]!, shape.at(-2)!, shape.at(-1)!];
  const geometry: Geometry = {
    batch,
    height,
    width,
    tokens: io.get("input.encoder_hidden_states")!.shape[1]!,
    ...(architecture.framesAxis !== undefined && { frames: shape[architecture.framesAxis]! }),
  };
  const feeds: Record<string, FloatTensor> = {};
  for (const [key, tensor] of io) {
    if (key.startsWith("input.")) feeds[camel(key.slice("input.".length))] = inFloats(tensor, batch);
  }
  const weights = drawn(weightShapes(architecture.model(config, geometry)));
  const path = await temporaryFolder();
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "io.safetensors"), io);
  await writeSafetensors(join(path, "diffusion_pytorch_model.safetensors"), weights);
  const expected = io.get("output.sample") as FloatTensor;
  return { raw, architecture, config, geometry, feeds, expected, weights, folder: new NodeFolder(path, name) };
}

/** As floats; one timestep for all is repeated. */
function inFloats({ shape, data }: Tensor, batch: number): FloatTensor {
  const values = Float32Array.from<number | bigint>(data, Number);
  return shape.length === 0
    ? floatTensor([batch], new Float32Array(batch).fill(values[0]!))
    : floatTensor(shape, values);
}
