/**
 * Puts trained parts together as a pipeline folder in diffusers' layout, weights in half precision.
 * `npx tsx training/export.ts [--from training/runs/transformer] [--to checkpoints/fluent-emoji]`
 */
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileSource } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import type { Tensor } from "../src/tensor.ts";
import { schedulerConfig, textEncoderConfig, transformerConfig } from "./model.ts";

const { values: options } = parseArgs({
  options: {
    from: { type: "string", default: "training/runs/transformer" },
    data: { type: "string", default: "training/data" },
    to: { type: "string", default: "checkpoints/fluent-emoji" },
  },
});

async function writeComponent(name: string, config: object, weights?: { from: string; to: string }) {
  const folder = join(options.to, name);
  await mkdir(folder, { recursive: true });
  const file = name === "scheduler" ? "scheduler_config.json" : "config.json";
  await writeFile(join(folder, file), JSON.stringify(config, null, 2) + "\n");
  if (!weights) return;
  const stored = await SafetensorsFile.open(await fileSource(weights.from));
  const tensors = new Map<string, Tensor>();
  for (const tensor of stored.entries.keys()) tensors.set(tensor, await stored.read(tensor));
  await writeSafetensors(join(folder, weights.to), tensors, { dtype: "F16" });
}

await writeComponent("transformer", transformerConfig, {
  from: join(options.from, "transformer.safetensors"),
  to: "diffusion_pytorch_model.safetensors",
});
await writeComponent("text_encoder", textEncoderConfig, {
  from: join(options.from, "text_encoder.safetensors"),
  to: "model.safetensors",
});
await writeComponent("vae", JSON.parse(await readFile(join(options.from, "vae", "config.json"), "utf8")) as object, {
  from: join(options.from, "vae", "diffusion_pytorch_model.safetensors"),
  to: "diffusion_pytorch_model.safetensors",
});
await writeComponent("scheduler", schedulerConfig);
await mkdir(join(options.to, "tokenizer"), { recursive: true });
for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
  await copyFile(join(options.data, "tokenizer", file), join(options.to, "tokenizer", file));
}
const index = {
  _class_name: "PixArtSigmaPipeline",
  // Of 2.5 to 7 what `halfstep eval` likes best (docs/training.md).
  _guidance_scale: 3,
  _max_sequence_length: 24,
  scheduler: ["diffusers", "DPMSolverMultistepScheduler"],
  text_encoder: ["transformers", "T5EncoderModel"],
  tokenizer: ["transformers", "PreTrainedTokenizerFast"],
  transformer: ["diffusers", "PixArtTransformer2DModel"],
  vae: ["diffusers", "AutoencoderKL"],
};
await writeFile(join(options.to, "model_index.json"), JSON.stringify(index, null, 2) + "\n");
