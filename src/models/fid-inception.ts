/**
 * InceptionV3 (Szegedy et al. 2016, arXiv 1512.00567, section 6) up to its last pooling, as used for the Fréchet Inception
 * distance (Heusel et al. 2017, arXiv 1706.08500): TensorFlow's network of 2015-12-05, with the names of pytorch-fid's port.
 * It differs from the published network: average pooling does not count the padding, and the last block uses max pooling.
 */
import { add, concat, conv2d, div, mul, reduceMean, relu, reshape, sqrt, sub } from "../graph/operators.ts";
import { averagePool2d, maxPool2d } from "../graph/pooling.ts";
import { input, staticDim, type Value } from "../graph/value.ts";
import type { Architecture, Geometry, Stage, StagedModel } from "./architecture.ts";
import type { Weights } from "./weights.ts";

/** Pixels on a side of its input images. */
export const INCEPTION_SIZE = 299;
export const INCEPTION_FEATURES = 2048;

const className = "FIDInceptionV3";
const EPSILON = 1e-3;

export const fidInception: Architecture<object> = {
  className,
  parseConfig: () => ({}),
  model,
  picture: "image",
  // The classifier, and the norms' counts of training batches.
  ignores: /^fc\.|\.num_batches_tracked$/,
};

/**
 * Input: `image` [batch, 3, height, width] in [-1, 1], 299 x 299 unless the geometry says otherwise. Output: `features`
 * [batch, 2048].
 */
function model(_: object, { batch, height = INCEPTION_SIZE, width = INCEPTION_SIZE }: Geometry): StagedModel {
  const stages: Stage[] = blocks.map(([name, build], i) => ({
    name,
    role: i === 0 ? "enter" : "block",
    axis: "whole",
    reads: [i === 0 ? "image" : "hidden"],
    writes: ["hidden"],
    build: (features, w) => ({ hidden: build(features[i === 0 ? "image" : "hidden"]!, w) }),
  }));
  return {
    className,
    inputs: { image: input("image", [batch, 3, height, width]) },
    outputs: ["features"],
    stages: [
      ...stages,
      {
        name: "avgpool",
        role: "leave",
        axis: "whole",
        reads: ["hidden"],
        writes: ["features"],
        build: ({ hidden }) => ({ features: reduceMean(hidden!, [2, 3], false) }),
      },
    ],
  };
}

type Block = (x: Value, w: Weights) => Value;
type Pool = (x: Value) => Value;

const mean: Pool = (x) => averagePool2d(x, 3, { padding: 1 });
const largest: Pool = (x) => maxPool2d(x, 3, { padding: 1 });
const halve: Pool = (x) => maxPool2d(x, 3, { stride: 2 });

/** The blocks in order, with the names of their weights. */
const blocks: readonly (readonly [name: string, build: Block])[] = [
  ["Conv2d_1a_3x3", (x, w) => convs(x, w, ["Conv2d_1a_3x3", 32, 3, { stride: 2 }])],
  ["Conv2d_2a_3x3", (x, w) => convs(x, w, ["Conv2d_2a_3x3", 32, 3])],
  ["Conv2d_2b_3x3", (x, w) => halve(convs(x, w, ["Conv2d_2b_3x3", 64, 3, { padding: 1 }]))],
  ["Conv2d_3b_1x1", (x, w) => convs(x, w, ["Conv2d_3b_1x1", 80, 1])],
  ["Conv2d_4a_3x3", (x, w) => halve(convs(x, w, ["Conv2d_4a_3x3", 192, 3]))],
  ["Mixed_5b", (x, w) => blockA(x, w.at("Mixed_5b"), 32)],
  ["Mixed_5c", (x, w) => blockA(x, w.at("Mixed_5c"), 64)],
  ["Mixed_5d", (x, w) => blockA(x, w.at("Mixed_5d"), 64)],
  ["Mixed_6a", (x, w) => blockB(x, w.at("Mixed_6a"))],
  ["Mixed_6b", (x, w) => blockC(x, w.at("Mixed_6b"), 128)],
  ["Mixed_6c", (x, w) => blockC(x, w.at("Mixed_6c"), 160)],
  ["Mixed_6d", (x, w) => blockC(x, w.at("Mixed_6d"), 160)],
  ["Mixed_6e", (x, w) => blockC(x, w.at("Mixed_6e"), 192)],
  ["Mixed_7a", (x, w) => blockD(x, w.at("Mixed_7a"))],
  ["Mixed_7b", (x, w) => blockE(x, w.at("Mixed_7b"), mean)],
  ["Mixed_7c", (x, w) => blockE(x, w.at("Mixed_7c"), largest)],
];

type Kernel = number | readonly [height: number, width: number];
type Conv = readonly [name: string, out: number, kernel: Kernel, options?: { stride?: number; padding?: number }];

/** Convolutions without bias, each followed by a batch norm with the statistics from training, and a ReLU. */
function convs(x: Value, w: Weights, ...layers: readonly Conv[]): Value {
  for (const [name, out, kernel, { stride = 1, padding } = {}] of layers) {
    const [kh, kw] = typeof kernel === "number" ? [kernel, kernel] : kernel;
    // Kernels of one row or column keep the size.
    const [high, wide] =
      padding === undefined && kh !== kw ? [(kh - 1) / 2, (kw - 1) / 2] : [padding ?? 0, padding ?? 0];
    const weight = w
      .at(name)
      .at("conv")
      .tensor("weight", [out, staticDim(x, 1, className), kh, kw]);
    x = relu(batchNorm(conv2d(x, weight, null, { stride, padding: [high, wide, high, wide] }), w.at(name).at("bn")));
  }
  return x;
}

function batchNorm(x: Value, w: Weights): Value {
  const channels = staticDim(x, 1, "batchNorm");
  const tensor = (name: string) => w.tensor(name, [channels]);
  const scale = div(tensor("weight"), sqrt(add(tensor("running_var"), EPSILON)));
  const shift = sub(tensor("bias"), mul(tensor("running_mean"), scale));
  return add(mul(x, reshape(scale, [channels, 1, 1])), reshape(shift, [channels, 1, 1]));
}

/** Figure 5 of the paper. */
function blockA(x: Value, w: Weights, pooled: number): Value {
  const narrow = convs(x, w, ["branch1x1", 64, 1]);
  const wide = convs(x, w, ["branch5x5_1", 48, 1], ["branch5x5_2", 64, 5, { padding: 2 }]);
  const double = convs(
    x,
    w,
    ["branch3x3dbl_1", 64, 1],
    ["branch3x3dbl_2", 96, 3, { padding: 1 }],
    ["branch3x3dbl_3", 96, 3, { padding: 1 }],
  );
  return concat([narrow, wide, double, convs(mean(x), w, ["branch_pool", pooled, 1])], 1);
}

/** Halves the size (figure 10). */
function blockB(x: Value, w: Weights): Value {
  const double = convs(
    x,
    w,
    ["branch3x3dbl_1", 64, 1],
    ["branch3x3dbl_2", 96, 3, { padding: 1 }],
    ["branch3x3dbl_3", 96, 3, { stride: 2 }],
  );
  return concat([convs(x, w, ["branch3x3", 384, 3, { stride: 2 }]), double, halve(x)], 1);
}

/** Kernels of length seven along rows and columns (figure 6). */
function blockC(x: Value, w: Weights, inner: number): Value {
  const single = convs(x, w, ["branch7x7_1", inner, 1], ["branch7x7_2", inner, [1, 7]], ["branch7x7_3", 192, [7, 1]]);
  const double = convs(
    x,
    w,
    ["branch7x7dbl_1", inner, 1],
    ["branch7x7dbl_2", inner, [7, 1]],
    ["branch7x7dbl_3", inner, [1, 7]],
    ["branch7x7dbl_4", inner, [7, 1]],
    ["branch7x7dbl_5", 192, [1, 7]],
  );
  const pooled = convs(mean(x), w, ["branch_pool", 192, 1]);
  return concat([convs(x, w, ["branch1x1", 192, 1]), single, double, pooled], 1);
}

/** Halves the size. */
function blockD(x: Value, w: Weights): Value {
  const single = convs(x, w, ["branch3x3_1", 192, 1], ["branch3x3_2", 320, 3, { stride: 2 }]);
  const seven = convs(
    x,
    w,
    ["branch7x7x3_1", 192, 1],
    ["branch7x7x3_2", 192, [1, 7]],
    ["branch7x7x3_3", 192, [7, 1]],
    ["branch7x7x3_4", 192, 3, { stride: 2 }],
  );
  return concat([single, seven, halve(x)], 1);
}

/** Kernels along rows and columns in parallel (figure 7). */
function blockE(x: Value, w: Weights, pool: Pool): Value {
  const sideBySide = (from: Value, name: string) =>
    concat([convs(from, w, [`${name}a`, 384, [1, 3]]), convs(from, w, [`${name}b`, 384, [3, 1]])], 1);
  const single = sideBySide(convs(x, w, ["branch3x3_1", 384, 1]), "branch3x3_2");
  const inner = convs(x, w, ["branch3x3dbl_1", 448, 1], ["branch3x3dbl_2", 384, 3, { padding: 1 }]);
  const double = sideBySide(inner, "branch3x3dbl_3");
  const pooled = convs(pool(x), w, ["branch_pool", 192, 1]);
  return concat([convs(x, w, ["branch1x1", 320, 1]), single, double, pooled], 1);
}
