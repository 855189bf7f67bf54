/**
 * Puts the trained video model together as a pipeline folder in AnimateDiff's layout, weights in half precision: the UNet as
 * Stable Diffusion has it, the motion modules in an adapter of their own.
 * `npx tsx training/export-motion.ts [--from training/runs/motion] [--to checkpoints/fluent-emoji-motion]`
 */
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileSource } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { CheckpointError } from "../src/errors.ts";
import type { Tensor } from "../src/tensor.ts";
import { sharedParts } from "./shared-parts.ts";
import {
  isMotion,
  motionAdapterConfig,
  motionUNetConfig,
  positionTables,
  unetConfig,
  unetShapes,
  videoSchedulerConfig,
  videoShape,
} from "./unet-model.ts";

const { values: options } = parseArgs({
  options: {
    from: { type: "string", default: "training/runs/motion" },
    to: { type: "string", default: "checkpoints/fluent-emoji-motion" },
  },
});

async function readAll(file: string): Promise<Map<string, Tensor>> {
  const stored = await SafetensorsFile.open(await fileSource(join(options.from, file)));
  const tensors = new Map<string, Tensor>();
  for (const name of stored.entries.keys()) tensors.set(name, await stored.read(name));
  return tensors;
}

async function writeNetwork(name: string, config: object, tensors: Map<string, Tensor>, wanted: Iterable<string>) {
  const missing = [...wanted].filter((tensor) => !tensors.has(tensor));
  if (missing.length > 0)
    throw new CheckpointError(`${options.from}: has no ${missing.join(", ")}, which ${name} needs`);
  await writeConfig(name, "config.json", config);
  await writeSafetensors(join(options.to, name, "diffusion_pytorch_model.safetensors"), tensors, { dtype: "F16" });
}

async function writeConfig(name: string, file: string, config: object) {
  await mkdir(join(options.to, name), { recursive: true });
  await writeFile(join(options.to, name, file), JSON.stringify(config, null, 2) + "\n");
}

await mkdir(options.to, { recursive: true });
const config = unetConfig(videoShape);
await writeNetwork("unet", config, await readAll("unet.safetensors"), unetShapes(config).keys());
const merged = motionUNetConfig(videoShape);
const modules = new Map([...(await readAll("motion.safetensors")), ...positionTables(merged)]);
const wanted = [...unetShapes(merged).keys()].filter(isMotion);
await writeNetwork("motion_adapter", motionAdapterConfig(videoShape), modules, wanted);
await writeConfig("scheduler", "scheduler_config.json", videoSchedulerConfig);
// The image model's, which lies beside it: not a second copy. It has to be what this model was trained with.
const image = "fluent-emoji";
for (const part of Object.keys(sharedParts)) {
  const [own, theirs] = [join(options.from, part), join(options.to, "..", image, part)];
  for (const file of await readdir(own)) {
    if ((await readFile(join(own, file))).equals(await readFile(join(theirs, file)))) continue;
    throw new CheckpointError(`${join(theirs, file)}: is not what ${options.from} was trained with`);
  }
}
const index = {
  _class_name: "AnimateDiffPipeline",
  motion_adapter: ["diffusers", "MotionAdapter"],
  scheduler: ["diffusers", videoSchedulerConfig._class_name],
  text_encoder: sharedParts.text_encoder,
  tokenizer: sharedParts.tokenizer,
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: sharedParts.vae,
  // Not diffusers', which leaves these alone: how closely prompts are followed, and where the other parts are.
  _guidance_scale: 4.5,
  _parts_from: Object.fromEntries(Object.keys(sharedParts).map((part) => [part, image])),
};
await writeFile(join(options.to, "model_index.json"), JSON.stringify(index, null, 2) + "\n");

let bytes = 0;
for (const entry of await readdir(options.to, { recursive: true, withFileTypes: true })) {
  if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
}
console.log(`${options.to}: ${(bytes / 1e6).toFixed(2)} MB`);
