/** Multiply-adds in the matrix products and convolutions of a stage; these dominate run time. */
import { type Node, topologicalOrder, type Value } from "../graph/value.ts";
import { buildModel, type Features, type StagedModel } from "../models/architecture.ts";
import { parameterWeights } from "../models/weights.ts";
import { sizeOf } from "../tensor.ts";
import { buildSlice, type Flow, groupsOf } from "./grouping.ts";

const size = (value: Value | null | undefined) => sizeOf((value?.shape ?? []) as number[]);
const last = ({ shape }: Value, axis: number) => Number(shape.at(axis));

/** Multiply-adds of one node; 0 unless it is a matrix product or convolution. */
function multiplyAdds({ op, inputs, outputs, attributes }: Node): number {
  const [a, b] = inputs;
  const out = size(outputs[0]);
  if (op === "Gemm") return out * (attributes["transA"] ? last(a!, 0) : last(a!, 1));
  if (op === "MatMul") return out * last(a!, -1);
  if (op === "Conv") return (out * size(b)) / last(b!, 0);
  // Queries times keys, then attention weights times values.
  if (op === "MultiHeadAttention") return 2 * size(a) * last(b!, 1);
  return 0;
}

/** Multiply-adds of each stage of a model, for the whole batch. */
export function multiplyAddsOf(flow: Flow): number[] {
  const batch = Math.max(...[...flow.sizes.values()].map((sizes) => sizes["batch"] ?? 1));
  const single = groupsOf(
    flow,
    flow.stages.map(() => 1),
  );
  return single.map((group) => {
    return sumOf(buildSlice(group, flow.sizes, parameterWeights().source, batch, group.length));
  });
}

/** Multiply-adds of a whole model of known sizes, whether or not its stages have layouts. */
export const multiplyAddsOfModel = (model: StagedModel): number => sumOf(buildModel(model, parameterWeights().source));

const sumOf = (outputs: Features) =>
  topologicalOrder(Object.values(outputs)).reduce((sum, node) => sum + multiplyAdds(node), 0);
