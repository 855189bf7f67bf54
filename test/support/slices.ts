/** Runs a model stage by stage, each stage in slices, with copies for everything: what a stage's layouts promise. */
import type { WeightFiles } from "../../src/checkpoints/weights.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { input } from "../../src/graph/value.ts";
import type { Layout, Stage, StagedModel } from "../../src/models/architecture.ts";
import { checkpointWeights, Weights, weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";

/** Where to cut a stage: along which dimension, and into parts of which lengths. Null leaves it whole. */
export type Cutter = (
  stage: Stage,
  length: (dimension: string) => number,
) => { dimension: string; parts: number[] } | null;

/** The outputs, and every feature in between, by name. */
export async function runInSlices(
  model: StagedModel,
  files: WeightFiles,
  feeds: Readonly<Record<string, FloatTensor>>,
  cutter: Cutter,
): Promise<Map<string, FloatTensor>> {
  const features = new Map(Object.entries(feeds));
  for (const stage of model.stages) {
    const layouts = stage.layouts!;
    const length = (dimension: string) =>
      Number(
        Object.values(layouts)
          .map((layout) => layout[dimension])
          .find(Boolean),
      );
    const cut = cutter(stage, length) ?? { dimension: "", parts: [0] };
    const session = await compile(stage, files, cut.dimension);
    let start = 0;
    for (const size of cut.parts) {
      const given = stage.reads.map((name) => {
        const at = dimensionOf(layouts[name]!, cut.dimension);
        return [name, at < 0 ? features.get(name)! : part(features.get(name)!, at, start, size)] as const;
      });
      const made = await session.run(Object.fromEntries(given));
      for (const name of stage.writes) {
        const layout = layouts[name]!;
        const at = dimensionOf(layout, cut.dimension);
        if (start === 0) features.set(name, floatTensor(Object.values(layout) as number[]));
        place(made[`out.${name}`] as FloatTensor, features.get(name)!, Math.max(at, 0), at < 0 ? 0 : start);
      }
      start += size;
    }
    await session.release();
  }
  return features;
}

const dimensionOf = (layout: Layout, name: string) => Object.keys(layout).indexOf(name);

/** One session for slices of any length: the dimension that is cut has a name in it and no number. */
function compile(stage: Stage, files: WeightFiles, cut: string) {
  const values = stage.reads.map((name) => {
    const dims = Object.entries(stage.layouts![name]!).map(([dimension, size]) => (dimension === cut ? cut : size));
    return [name, input(name, dims)] as const;
  });
  const made = stage.build(Object.fromEntries(values), new Weights(checkpointWeights(files, stage.name)));
  const renamed = Object.fromEntries(stage.writes.map((name) => [`out.${name}`, made[name]!]));
  return nodeRuntime.compile(toOnnx(renamed), weightLocations(files), { threads: 1 });
}

/** Chunks that lie together: how many there are before an axis, and how long one element of the axis is. */
function strides({ shape }: FloatTensor, axis: number) {
  const product = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1);
  return { outer: product(shape.slice(0, axis)), length: shape[axis]!, inner: product(shape.slice(axis + 1)) };
}

function part(tensor: FloatTensor, axis: number, start: number, size: number): FloatTensor {
  const { outer, length, inner } = strides(tensor, axis);
  const result = floatTensor(tensor.shape.with(axis, size));
  for (let i = 0; i < outer; i++) {
    const from = (i * length + start) * inner;
    result.data.set(tensor.data.subarray(from, from + size * inner), i * size * inner);
  }
  return result;
}

function place(from: FloatTensor, to: FloatTensor, axis: number, start: number): void {
  const { outer, length, inner } = strides(to, axis);
  const size = from.shape[axis]!;
  for (let i = 0; i < outer; i++) {
    to.data.set(from.data.subarray(i * size * inner, (i + 1) * size * inner), (i * length + start) * inner);
  }
}
