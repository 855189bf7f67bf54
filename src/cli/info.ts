import { Command } from "commander";
import { type MethodEntry, methodsFor, namesOf } from "../acceleration/methods.ts";
import {
  componentFolder,
  hasConfig,
  isPipeline,
  type RawConfig,
  readConfig,
  readModelIndex,
} from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { openWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { HalfstepError } from "../errors.ts";
import { networksOf } from "../models/registry.ts";
import { motionAdapterClass } from "../models/unet-motion-adapter.ts";
import { defined } from "../options/defined.ts";
import { platform } from "../platform/node.ts";
import type { NetworkKind } from "../sampling/method.ts";
import { schedulerNames } from "../schedulers/registry.ts";
import { printResult } from "./json.ts";
import { addOptions, outputOptions, type SourceOptions, shortNumber, sourceOf, sourceOptions } from "./options.ts";
import { print } from "./terminal.ts";

interface ComponentInfo {
  name: string;
  class: string;
  parameters: number;
  /** Transformer or U-Net blocks, by the names of the weights. */
  blocks: number;
  /** Bytes on disk. */
  bytes: number;
  dtypes: string[];
  /** Bytes of the weights in float32, the precision of computation. */
  memory: number;
  supported: boolean;
  /** Of a denoiser: the methods for fewer full steps that it can be accelerated by. */
  methods?: readonly string[];
}

export function infoCommand(): Command {
  const command = new Command("info")
    .description("what a checkpoint is, how large it is, and the memory it will need")
    .argument("<model>", "embedded model, folder, .safetensors or .gguf file, or Hub id");
  return addOptions(command, [...sourceOptions(), ...outputOptions("it", { force: false })]).action(info);
}

async function info(model: string, { json, ...source }: SourceOptions & { json?: boolean }): Promise<void> {
  const folder = await platform.resolveModel(model, sourceOf(source));
  const pipeline = await isPipeline(folder);
  const index = pipeline ? await readModelIndex(folder) : null;
  const components: ComponentInfo[] = [];
  const trained = pipeline && (await hasConfig(folder.sub("ilf")));
  for (const name of index?.components.keys() ?? [""]) {
    const part = name ? componentFolder(folder, index!, name) : folder;
    if (!name || (await hasConfig(part))) components.push(await describeComponent(part, name, trained, source.variant));
  }
  const className = index?.className ?? components[0]?.class ?? "unknown";
  const memory = components.reduce((sum, component) => sum + component.memory, 0);
  if (json) {
    await printResult("info", { model: folder.name, class: className, components, memory });
    return;
  }
  await print(`${folder.name}: ${className}`);
  for (const part of components) {
    const size = part.parameters
      ? `${shortNumber(part.parameters)} parameters${part.blocks ? ` in ${part.blocks} blocks` : ""}, ` +
        `${shortNumber(part.bytes, "B")} as ${part.dtypes.join(" and ")}`
      : "";
    const support = part.supported ? "" : " (not supported by this version)";
    await print(`  ${(part.name || "model").padEnd(14)} ${part.class}${support}${size ? `: ${size}` : ""}`);
  }
  const methods = components.flatMap((part) => (part.supported && part.methods) || []);
  if (methods.length > 0) await print(`  fewer full steps (--accelerate): ${methods.join(", ")}`);
  await print(`  weights in memory: ${shortNumber(memory, "B")} (float32), activations on top`);
}

async function describeComponent(
  folder: Folder,
  name: string,
  trained: boolean,
  variant?: string,
): Promise<ComponentInfo> {
  const config = await readConfig(folder);
  const className = String(
    config["_class_name"] ?? (config["architectures"] as string[] | undefined)?.[0] ?? "tokenizer",
  );
  const isNetwork =
    !className.includes("Scheduler") && !className.includes("okenizer") && config["tokenizer_class"] === undefined;
  const weights = isNetwork ? await openWeights(folder, variant) : null;
  return {
    name,
    class: config["tokenizer_class"] ? String(config["tokenizer_class"]) : className,
    parameters: weights?.parameters ?? 0,
    blocks: weights ? countBlocks(weights) : 0,
    bytes: weights?.bytes ?? 0,
    dtypes: weights ? [...new Set([...weights.entries.values()].map(({ dtype }) => dtype))] : [],
    memory: (weights?.parameters ?? 0) * 4,
    supported: isSupported(config, className, isNetwork),
    ...defined({ methods: methodsOf(className, trained) }),
  };
}

/** The kinds of networks that methods are for, by class. */
const networks: ReadonlyMap<string, { kind: NetworkKind; crossAttention?: true }> = new Map([
  ["DiTTransformer2DModel", { kind: "transformer" }],
  ["SD3Transformer2DModel", { kind: "transformer" }],
  ["PixArtTransformer2DModel", { kind: "transformer", crossAttention: true }],
  ["UNet2DConditionModel", { kind: "unet", crossAttention: true }],
  ["UNetMotionModel", { kind: "video-unet" }],
  ["UNetSpatioTemporalConditionModel", { kind: "video-unet" }],
]);

/** Undefined for what is no denoiser. */
function methodsOf(className: string, trained: boolean): readonly string[] | undefined {
  const network = networks.get(className);
  const fitting = (entry: MethodEntry) =>
    entry.name !== "none" && (!entry.trained || trained) && (!entry.crossAttention || network?.crossAttention);
  return network && namesOf(methodsFor(network.kind).filter(fitting));
}

function isSupported(config: RawConfig, className: string, isNetwork: boolean): boolean {
  // A motion adapter is only part of a network; the rest is the UNet that it is merged with.
  if (className === motionAdapterClass) return true;
  if (!isNetwork) return !className.includes("Scheduler") || schedulerNames.includes(className);
  try {
    for (const { parseConfig } of Object.values(networksOf(config))) parseConfig(config);
    return true;
  } catch (error) {
    if (error instanceof HalfstepError) return false;
    throw error;
  }
}

/** Items of all outermost lists of blocks (transformer_blocks.0, down_blocks.0, encoder.layers.0, ...), and a UNet's middle block. */
function countBlocks(weights: WeightFiles): number {
  const blocks = new Set<string>();
  for (const name of weights.entries.keys()) {
    const [block] = /^(?:(?:.*?\.)?mid_block|.*?(?:blocks?|layers)\.\d+)(?=\.)/.exec(name) ?? [];
    if (block) blocks.add(block);
  }
  return blocks.size;
}
