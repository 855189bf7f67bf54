/** Checkpoints in one file and LoRAs, as targets. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { memorySource, parseJson } from "../../src/checkpoints/files.ts";
import { readGgufHeader } from "../../src/checkpoints/gguf/header.ts";
import { LoraFile } from "../../src/checkpoints/lora/file.ts";
import type { LoraTarget } from "../../src/checkpoints/lora/keys.ts";
import { withLoras } from "../../src/checkpoints/lora/merge.ts";
import type { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import type { TensorEntry } from "../../src/checkpoints/safetensors-header.ts";
import { readCheckpoint } from "../../src/checkpoints/single-file/checkpoint.ts";
import { isMotionAdapter, motionAdapterFolder } from "../../src/checkpoints/single-file/motion-adapter.ts";
import { openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { HalfstepError } from "../../src/errors.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { checkCounts } from "../../src/models/counts.ts";
import { networksOf } from "../../src/models/registry.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { withMotionAdapter } from "../../src/models/unet-motion-adapter.ts";
import { floatTensor, sizeOf } from "../../src/tensor.ts";
import { encodeGguf } from "../support/gguf.ts";
import { readGzip } from "../support/single-files.ts";
import type { Target } from "./case.ts";
import type { Files } from "./mutate.ts";

const file = (path: string) => new Uint8Array(readFileSync(join(import.meta.dirname, "../fixtures", path)));
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Names with shapes: what a file's header says. Their data lies nowhere. */
type Shapes = readonly (readonly [name: string, shape: readonly number[]])[];

function headerOf(shapes: Shapes, dtype: TensorEntry["dtype"] = "F16"): WeightFiles {
  const entries = new Map<string, TensorEntry>();
  let offset = 0;
  for (const [name, shape] of shapes) {
    const length = 2 * sizeOf(shape);
    entries.set(name, { name, dtype, shape, offset, length, file: "file" });
    offset += length;
  }
  return new WeightFiles(entries, new Map([["file", undefined as never]]));
}

const small = ["sd1", "sd2", "sdxl", "sd3"].map((name) => readGzip(`${name}.json.gz`) as Shapes);

/** JSON that is such a list. */
function shapesIn(files: Files): Shapes {
  let json: unknown;
  try {
    json = parseJson(decoder.decode(files.get("names.json")), "names.json");
  } catch (error) {
    if (error instanceof HalfstepError || error instanceof TypeError) return [];
    throw error;
  }
  if (!Array.isArray(json)) return [];
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) >= 0;
  return json.filter(
    (item) =>
      Array.isArray(item) &&
      typeof item[0] === "string" &&
      Array.isArray(item[1]) &&
      (item[1] as unknown[]).every(isSize),
  ) as unknown as Shapes;
}

export const singleFiles: Target = {
  seeds: small.map((shapes) => new Map([["names.json", encoder.encode(JSON.stringify(shapes))]])),
  run(files) {
    const { components } = readCheckpoint(headerOf(shapesIn(files)), { "modelspec.predict_key": "v" });
    for (const { config, weights } of components.values()) {
      for (const architecture of Object.values(networksOf(config))) {
        const parsed = architecture.parseConfig(config);
        checkCounts(architecture.counts?.(parsed) ?? [], weights);
        weightShapes(architecture.model(parsed, { batch: 1, height: 16, width: 16, tokens: 8 }));
      }
    }
  },
};

const base = (() => {
  const { components } = readCheckpoint(headerOf(small[0]!), {});
  return components.get("unet")!;
})();

/** What a motion adapter for the smallest of them has, in AnimateDiff's names. */
function adapterShapes(): Shapes {
  const config = {
    ...{ _class_name: "MotionAdapter", block_out_channels: [32, 64], motion_layers_per_block: 1 },
    motion_max_seq_length: 8,
  };
  const some = headerOf([["down_blocks.0.motion_modules.0.norm.weight", [32]]]);
  const merged = unetMotion.parseConfig(withMotionAdapter(base, { config, weights: some }).config);
  const model = unetMotion.model(merged, { batch: 1, frames: 2, height: 8, width: 8, tokens: 8 });
  return [...weightShapes(model)]
    .filter(([name]) => name.includes("motion_modules"))
    .map(([name, shape]) => [name.replace(/(motion_modules\.\d+)/, "$1.temporal_transformer"), shape]);
}

export const motionAdapters: Target = {
  seeds: [new Map([["names.json", encoder.encode(JSON.stringify(adapterShapes()))]])],
  async run(files) {
    const file = headerOf(shapesIn(files));
    if (!isMotionAdapter(file.entries.keys())) return;
    const folder = motionAdapterFolder(file);
    const adapter = { config: await readConfig(folder), weights: await openWeights(folder) };
    const { config, weights } = withMotionAdapter(base, adapter);
    const parsed = unetMotion.parseConfig(config);
    checkCounts(unetMotion.counts!(parsed), weights);
    weightShapes(unetMotion.model(parsed, { batch: 1, height: 8, width: 8, tokens: 8 }));
  },
};

/** Zeros, however many are asked for, of a file that is only so large. */
const zeros = (size: number) => ({
  name: "model.safetensors",
  size,
  read: async (_: number, length: number) => new Uint8Array(Math.min(length, size)),
});

async function networksToChange(): Promise<readonly (readonly [LoraTarget, WeightFiles])[]> {
  const found: [LoraTarget, WeightFiles][] = [];
  for (const shapes of [small[0]!, small[3]!]) {
    const { components } = readCheckpoint(headerOf(shapes), {});
    for (const [name, { weights }] of components) {
      const isDenoiser = name === "unet" || name === "transformer";
      const target: LoraTarget = isDenoiser ? "denoiser" : (name as LoraTarget);
      const file = { source: zeros(2 ** 24) } as unknown as SafetensorsFile;
      found.push([target, new WeightFiles(weights.entries, new Map([["file", file]]))]);
    }
  }
  return found;
}

/** A LoRA of Stable Diffusion 3 with kohya's names: of a layer that is three here, and of one whose halves are exchanged. */
function ofJointLayers(): Uint8Array {
  const shapes = { x_block_attn_qkv: 384, context_block_adaLN_modulation_1: 256 };
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [layer, rows] of Object.entries(shapes)) {
    for (const [part, shape] of [
      ["up", [rows, 1]],
      ["down", [1, 128]],
    ] as const) {
      const length = 4 * sizeOf(shape);
      const name = `lora_unet_joint_blocks_2_${layer}.lora_${part}.weight`;
      header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + length] };
      offset += length;
    }
  }
  const json = encoder.encode(JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

let models: ReturnType<typeof networksToChange> | undefined;

export const loras: Target = {
  seeds: [...["peft", "kohya", "older"].map((name) => file(`loras/${name}.safetensors`)), ofJointLayers()].map(
    (bytes) => new Map([["lora.safetensors", bytes]]),
  ),
  async run(files) {
    const lora = await LoraFile.open(memorySource("lora.safetensors", files.get("lora.safetensors")!));
    models ??= networksToChange();
    for (const [target, model] of await models) {
      try {
        const weights = withLoras(model, target, [{ lora, scale: 0.5 }]);
        for (const [name, { added }] of weights.entries) if (added) await weights.read(name);
      } catch (error) {
        if (!(error instanceof HalfstepError)) throw error;
      }
    }
  },
};

/** Names as a checkpoint has them, each with four weights. */
const named = encodeGguf(new Map(small[0]!.map(([name]) => [name, floatTensor([2, 2])])), () => "F16");

export const gguf: Target = {
  seeds: [file("gguf/types.gguf"), named].map((bytes) => new Map([["model.gguf", bytes]])),
  async run(files) {
    const source = memorySource("model.gguf", files.get("model.gguf")!);
    const { entries, metadata } = await readGgufHeader(source);
    const weights = new WeightFiles(entries, new Map([[source.name, { source }]]));
    for (const name of entries.keys()) await weights.read(name);
    readCheckpoint(weights, metadata);
  },
};
