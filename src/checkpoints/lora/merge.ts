import { CheckpointError } from "../../errors.ts";
import { sizeOf } from "../../tensor.ts";
import { quote } from "../json.ts";
import { isOfMotion } from "../motion-names.ts";
import { rowPart } from "../row-parts.ts";
import { unetNames } from "../single-file/names.ts";
import { type Sd3Layer, sd3Layers } from "../single-file/sd3-names.ts";
import { type LowRank, type WeightEntry, WeightFiles } from "../weight-files.ts";
import { type LoraFile, type LoraLayer, namesOf } from "./file.ts";
import { asLayer, type LoraTarget } from "./keys.ts";

/** A LoRA and its scale. */
export interface ScaledLora {
  readonly lora: LoraFile;
  /** 1 is how it was trained; other values weaken, strengthen or invert it. */
  readonly scale: number;
}

/**
 * The weights of a network with LoRAs: each changed tensor is the stored one plus scale * alpha / rank * up * down of each
 * LoRA, computed when it is used. Layers for other networks are ignored. Throws CheckpointError for layers that the network
 * does not have, and for a layer of another size, with its name.
 */
export function withLoras(weights: WeightFiles, target: LoraTarget, loras: readonly ScaledLora[]): WeightFiles {
  const tensors = layersOf(weights);
  const entries = new Map(weights.entries);
  const files = new Map(weights.files);
  for (const [i, { lora, scale }] of loras.entries()) {
    const layers = lora.layers.get(target);
    if (!layers) continue;
    const unknown = [...layers].filter(([layer]) => !tensors.has(layer));
    if (unknown.length > 0) {
      const names = unknown.map(([, { name }]) => name);
      const motion = names.every(isOfMotion) && ![...weights.entries.keys()].some(isOfMotion);
      const why = motion
        ? "are layers of motion modules: a motion LoRA goes with a motion adapter and makes videos (animate --adapter)"
        : `are layers that ${weights.name} does not have, so it is for another model`;
      throw new CheckpointError(`${lora.name}: ${namesOf(names, why)}`);
    }
    const file = `lora-${i + 1}/${lora.name.replace(/^.*[/\\]/, "")}`;
    files.set(file, lora.file);
    for (const { name, part, swapped } of changesOf(lora, layers, tensors)) {
      const entry = entries.get(name)!;
      checkShape(lora, part, name, entry);
      if (scale === 0 || part.scale === 0) continue;
      const inFile = (tensor: WeightEntry): WeightEntry => ({ ...tensor, file });
      const added: LowRank = {
        scale: scale * part.scale,
        up: { ...inFile(part.up), ...(swapped ? { swapped } : {}) },
        ...(part.mid ? { mid: inFile(part.mid) } : {}),
        down: inFile(part.down),
      };
      entries.set(name, { ...entry, added: [...(entry.added ?? []), added] });
    }
  }
  return new WeightFiles(entries, files);
}

function checkShape(lora: LoraFile, { name, up, mid, down }: LoraLayer, tensor: string, { shape }: WeightEntry): void {
  const kernel = (mid ?? down).shape.slice(2);
  const made = [up.shape[0]!, down.shape[1]!, ...kernel];
  // A 1 x 1 convolution and a matrix contain the same numbers.
  const whole = (sizes: readonly number[]) => (sizes.slice(2).every((size) => size === 1) ? sizes.slice(0, 2) : sizes);
  if (shape.length >= 2 && whole(made).join() === whole(shape).join() && sizeOf(made) === sizeOf(shape)) return;
  throw new CheckpointError(
    `${lora.name}: layer "${name}" adds [${made.join(", ")}] to ${tensor}, which is [${shape.join(", ")}] in this model: it was made ` +
      "for another base model.",
  );
}

/** A tensor that a layer of a LoRA changes. */
interface Change {
  readonly name: string;
  readonly part: LoraLayer;
  readonly swapped?: true;
}

/** A layer of the original layout may be several tensors here, each of which gets its rows of the product. */
function changesOf(
  lora: LoraFile,
  layers: ReadonlyMap<string, LoraLayer>,
  tensors: ReadonlyMap<string, Layer>,
): Change[] {
  return [...layers].flatMap(([layer, part]): Change[] => {
    const { names, swapped } = tensors.get(layer)!;
    const where = `${lora.name}: layer ${quote(part.name)}`;
    return names.map((name, i) => ({
      name,
      part: names.length === 1 ? part : { ...part, up: rowPart(part.up, i, names.length, where) },
      ...(swapped ? { swapped } : {}),
    }));
  });
}

/** The tensors of a layer, which are equal parts of its rows. */
interface Layer {
  readonly names: readonly string[];
  /** The tensor's halves are in the other order in the layer. */
  readonly swapped?: true;
}

/**
 * Every tensor that a LoRA can change, by the names of its layer in LoRA files: diffusers' and, in a UNet and in Stable Diffusion 3, the
 * original's.
 */
function layersOf(weights: WeightFiles): ReadonlyMap<string, Layer> {
  const layers = new Map<string, Layer>();
  for (const { original, diffusers, swapped } of originalsOf(weights)) {
    const names = diffusers.map((module) => `${module}.weight`);
    if (!names.every((name) => weights.entries.has(name))) continue;
    layers.set(asLayer(original), { names, ...(swapped ? { swapped } : {}) });
  }
  const original = originalNames(weights);
  for (const [name, { shape }] of weights.entries) {
    if (!name.endsWith(".weight") || shape.length < 2) continue;
    const module = name.slice(0, -".weight".length);
    layers.set(asLayer(module), { names: [name] });
    // diffusers before 0.18 stored the LoRAs of projections next to them: to_out_lora for to_out.0
    if (module.endsWith(".to_out.0")) layers.set(asLayer(module.slice(0, -2)), { names: [name] });
    const other = original(module);
    if (other !== undefined) layers.set(asLayer(other), { names: [name] });
  }
  return layers;
}

/** Of Stable Diffusion 3's transformer; none for other networks. */
function originalsOf({ entries }: WeightFiles): readonly Sd3Layer[] {
  let blocks = 0;
  for (const name of entries.keys()) {
    const [, block] = /^transformer_blocks\.(\d{1,3})\.attn\.add_q_proj\.weight$/.exec(name) ?? [];
    if (block !== undefined) blocks = Math.max(blocks, Number(block) + 1);
  }
  return blocks === 0 ? [] : sd3Layers(blocks);
}

/** The name of a UNet's module in the original layout, in which kohya's tools write LoRAs for SDXL. */
function originalNames({ entries }: WeightFiles): (module: string) => string | undefined {
  const levels: number[] = [];
  const attention = new Set<number>();
  for (const name of entries.keys()) {
    const [, level, kind, layer] = /^down_blocks\.(\d{1,2})\.(resnets|attentions)\.(\d{1,2})\./.exec(name) ?? [];
    if (level === undefined) continue;
    levels[Number(level)] = Math.max(levels[Number(level)] ?? 0, Number(layer) + 1);
    if (kind === "attentions") attention.add(Number(level));
  }
  // Also refuses gaps: the levels of a UNet are numbered without gaps, and no published UNet has more than a few.
  if (
    levels.length === 0 ||
    levels.length > 16 ||
    Math.max(...levels) > 16 ||
    Array.from(levels).includes(undefined as never)
  )
    return () => undefined;
  const { prefixes, within } = unetNames(levels, (level) => attention.has(level));
  return (module) => {
    const name = `${module}.`;
    const found = prefixes.find(([, to]) => name.startsWith(to));
    if (!found) return undefined;
    const rest = name.slice(found[1].length);
    const part = within.flatMap(({ parts }) => parts).find(([, to]) => rest === to);
    return `${found[0]}${part?.[0] ?? rest}`.replace(/\.$/, "");
  };
}
