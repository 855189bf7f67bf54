import { type RawConfig, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { checkFinite, checkWeights, openWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { ArgumentError } from "../errors.ts";
import { toOnnx } from "../graph/onnx.ts";
import { reshape, transpose } from "../graph/operators.ts";
import type { Value } from "../graph/value.ts";
import {
  type Architecture,
  describeModel,
  type Features,
  type Geometry,
  type StagedModel,
  weightShapes,
} from "../models/architecture.ts";
import { checkCounts } from "../models/counts.ts";
import { networksOf, type Registry } from "../models/registry.ts";
import { loadModel, namedWeights } from "../models/staged-session.ts";
import { checkpointWeights, Weights, weightLocations } from "../models/weights.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { floatTensor, type Tensor } from "../tensor.ts";
import { compare, type OutputError } from "./compare.ts";

type Io = ReadonlyMap<string, Tensor>;
type Tensors = Readonly<Record<string, Tensor>>;

export interface ModelCaseOptions extends SessionOptions {
  /** Whether to compare intermediate states (`block.*`) too, if it is clear which they are. */
  blocks?: boolean;
  /** Replaces the folder's config.json. */
  config?: RawConfig;
  /** Variant of the weights, such as "fp16". */
  variant?: string;
  /** Where the network's class is looked up: by default all that halfstep has; add your own with `registered`. */
  registry?: Registry;
}

export interface ModelCaseResult {
  readonly className: string;
  readonly outputs: readonly OutputError[];
  /** Empty unless asked for. */
  readonly blocks: readonly OutputError[];
}

/**
 * Compares a folder with a model's config.json and weights with reference tensors: feeds `input.*`, and compares `output.*`.
 * Throws CheckpointError for weights that are missing, unknown, of another shape or not finite, ConfigError for a
 * configuration that is not supported, ArgumentError for reference tensors that the model cannot be compared with.
 */
export async function verifyModel(
  folder: Folder,
  io: Io,
  runtime: Runtime,
  { blocks = false, config: given, variant, registry, ...session }: ModelCaseOptions = {},
): Promise<ModelCaseResult> {
  const raw = given ?? (await readConfig(folder));
  const networks = Object.entries(networksOf(raw, registry)).map(([name, architecture]) => {
    const config = architecture.parseConfig(raw);
    return { architecture, config, model: (geometry: Geometry) => architecture.model(config, geometry), name };
  });
  const files = await openWeights(folder, variant);
  for (const { architecture, config } of networks) {
    checkCounts(architecture.counts?.(config) ?? [], namedWeights(architecture, files));
  }
  const inputs = byFeature(io, "input.");
  const parts = networks.map((network) => {
    const geometry = geometryOf(network, inputs, byFeature(io, "output.").keys());
    return { ...network, geometry, model: network.model(geometry) };
  });
  await checkAll(files, parts);

  const outputs: OutputError[] = [];
  const states: OutputError[] = [];
  for (const { architecture, config, geometry, model } of parts) {
    const feeds = feedsOf(model, inputs);
    const loaded = await loadModel(runtime, architecture, config, files, geometry, session);
    const results = await loaded.run(feeds);
    await loaded.release();
    for (const [name, expected] of byFeature(io, "output.")) {
      if (results[name]) outputs.push(compareTensors(`output.${snake(name)}`, results[name], expected));
    }
    if (blocks) states.push(...(await compareBlocks(model, namedWeights(architecture, files), runtime, feeds, io)));
  }
  for (const name of io.keys()) {
    if (name.startsWith("output.") && !outputs.some((output) => output.name === name)) {
      throw new ArgumentError(`${folder.name}: ${networks[0]!.architecture.className} has no output for "${name}".`);
    }
  }
  if (outputs.length === 0) throw new ArgumentError(`${folder.name}: the reference has no tensor "output.*".`);
  return { className: networks[0]!.architecture.className, outputs, blocks: states };
}

/** Checks that every tensor belongs to one of the networks, and that none has NaN: a user wants to know this first. */
export async function checkAll(
  files: WeightFiles,
  parts: readonly { architecture: Architecture<unknown>; model: StagedModel }[],
): Promise<void> {
  const needed = new Map(parts.flatMap(({ model }) => [...weightShapes(model)]));
  const { architecture, model } = parts[0]!;
  const named = namedWeights(architecture, files);
  checkWeights(named, needed, describeModel(model), (name) => architecture.ignores?.test(name) ?? false);
  await checkFinite(named);
}

/** The sizes of the reference's inputs, and the states among its outputs. */
function geometryOf(
  { name, architecture }: { name: string; architecture: Architecture<unknown> },
  inputs: Io,
  outputs: Iterable<string>,
): Geometry {
  const picture = inputs.get(architecture.picture ?? "");
  const text = inputs.get(architecture.text ?? "");
  const [batch] = (picture ?? text ?? [...inputs.values()][0])?.shape ?? [];
  if (batch === undefined) throw new ArgumentError('The reference has no tensor "input.*" with a batch.');
  const [height, width] = picture?.shape.slice(-2) ?? [];
  const tokens = text?.shape[1];
  const timeIds = inputs.get("timeIds")?.shape[1];
  const hiddenStates = [...outputs].flatMap((output) => /^hiddenStates\.(\d+)$/.exec(output)?.[1] ?? []).map(Number);
  // A video decoder gets the frames of all videos one after the other.
  const inARow = name === "decoder" ? Number(inputs.get("numFrames")?.data[0] ?? 0) : 0;
  const frames = inARow || (architecture.framesAxis === undefined ? 0 : picture?.shape[architecture.framesAxis]);
  return {
    batch: inARow ? batch / inARow : batch,
    ...(frames && { frames }),
    ...(height !== undefined && { height }),
    ...(width !== undefined && { width }),
    ...(tokens !== undefined && { tokens }),
    ...(timeIds !== undefined && { timeIds }),
    ...(hiddenStates.length > 0 && { hiddenStates }),
  };
}

/**
 * The model's inputs from the reference. Integers are converted to floats if the model takes floats, and optional inputs that the
 * reference lacks are zeros.
 */
function feedsOf({ className, inputs: wanted, optional }: StagedModel, inputs: Io): Tensors {
  return Object.fromEntries(
    Object.entries<Value>(wanted).map(([name, { dtype, shape }]) => {
      const tensor = inputs.get(name) ?? (optional?.includes(name) ? floatTensor(shape.map(Number)) : undefined);
      if (!tensor) throw new ArgumentError(`${className} needs "input.${snake(name)}", which the reference lacks.`);
      if (dtype !== "float32") return [name, tensor];
      const data = tensor.dtype === dtype ? tensor.data : Float32Array.from<number | bigint>(tensor.data, Number);
      // One timestep for the whole batch.
      if (tensor.shape.length === 0 && shape.length === 1) {
        const count = Number(shape[0]);
        return [name, { dtype, shape: [count], data: new Float32Array(count).fill(Number(data[0])) }];
      }
      return [name, { dtype, shape: tensor.shape, data }];
    }),
  );
}

/** Computes every state that a stage writes, in one graph, and compares them with the `block.*` tensors. */
async function compareBlocks(model: StagedModel, files: WeightFiles, runtime: Runtime, feeds: Tensors, io: Io) {
  const names = [...io.keys()].filter((name) => name.startsWith("block."));
  const states = statesBetween(model, new Weights(checkpointWeights(files, describeModel(model))), names);
  for (const [name, value] of states) states.set(name, inShape(value, io.get(name)!.shape));
  if (states.size === 0) return [];
  const session = await runtime.compile(toOnnx(Object.fromEntries(states)), weightLocations(files));
  const results = await session.run(feeds);
  await session.release();
  return [...states.keys()].map((name) => compareTensors(name, results[name]!, io.get(name)!));
}

/**
 * The values that the names `block.*` refer to. They are named after a feature ("caption_projection") or a stage ("pos_embed",
 * "down.0"); numbers count the blocks, for text encoders with the embedding as 0. If a
 * block writes several features, its name refers to the latent's.
 */
function statesBetween(model: StagedModel, weights: Weights, names: readonly string[]): Map<string, Value> {
  const written = new Map<string, Value>();
  const numbered: Value[] = [];
  const [stream = ""] = model.streams ?? [];
  let features: Features = model.inputs;
  for (const [i, stage] of model.stages.entries()) {
    const outputs = stage.build(features, weights);
    const value = outputs[stream] ?? (stage.writes.length === 1 ? outputs[stage.writes[0]!] : undefined);
    // The state after a block is the one after its last stage.
    const path = stage.name
      .replace(/_(blocks?|modules)\b/g, "")
      .replace(/s\b/g, "")
      .split(".");
    if (value) for (const end of path.keys()) written.set(path.slice(0, end + 1).join("."), value);
    if (value && (i === 0 || stage.role === "block")) numbered.push(value);
    for (const [name, output] of Object.entries(outputs)) written.set(snake(name), output);
    features = { ...features, ...outputs };
  }
  const counted = names.filter((name) => /^block\.\d+$/.test(name)).length;
  if (counted < numbered.length) numbered.shift();
  const states = names.flatMap((name) => {
    const key = name.slice("block.".length);
    const value = /^\d+$/.test(key) ? numbered[Number(key)] : written.get(key);
    return value ? [[name, value] as const] : [];
  });
  return new Map(states);
}

/**
 * Features of UNets are [batch, frames, height * width, channels], but in references [batch * frames, channels, height,
 * width].
 */
function inShape(value: Value, shape: readonly number[]): Value {
  const [batch, frames, positions, channels] = value.shape.map(Number) as [number, number, number, number];
  const [pictures, , height, width] = shape as [number, number, number, number];
  const same = value.shape.length === 4 && batch * frames === pictures && positions === height * width;
  return same && channels === shape[1] ? reshape(transpose(value, [0, 1, 3, 2]), shape) : value;
}

function compareTensors(name: string, actual: Tensor, expected: Tensor): OutputError {
  const same =
    actual.shape.length === expected.shape.length && actual.shape.every((dim, i) => dim === expected.shape[i]);
  if (same) return compare(name, actual.data, expected.data);
  throw new ArgumentError(`${name}: the model gives [${actual.shape}], the reference has [${expected.shape}].`);
}

/**
 * The tensors below a prefix under their features' names: "input.added_cond_kwargs.aspect_ratio" is aspectRatio,
 * "output.hidden_states.2" hiddenStates.2.
 */
function byFeature(io: Io, prefix: string): Map<string, Tensor> {
  const tensors = [...io].filter(([name]) => name.startsWith(prefix));
  return new Map(tensors.map(([name, tensor]) => [camel(/[^.]*(\.\d+)?$/.exec(name)![0]), tensor]));
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
