/**
 * diffusers' "simple" blocks (SimpleCrossAttnDownBlock2D and the like, in the UNets of unCLIP and IF): one attention over the
 * image and the text together, and a resnet that halves or doubles the size without a convolution for it.
 */
import { ArgumentError } from "../../errors.ts";
import { add, attention, concat, reshape, upsampleNearest } from "../../graph/operators.ts";
import { averagePool2d } from "../../graph/pooling.ts";
import type { Dim, Value } from "../../graph/value.ts";
import { groupNorm, linear } from "../layers.ts";
import { type ResnetOptions, resnetBlock, TIME } from "./layers.ts";
import { CONTEXT, type Field, type StageList, toField, toPictures } from "./stages.ts";

/** diffusers builds the attention's norm with its own default epsilon, whichever the resnets have. */
const ATTENTION_NORM_EPSILON = 1e-5;

export interface SimpleAttentionOptions {
  groups: number;
  heads: number;
  /** Whether it attends to the text only, and not to the image. */
  onlyCross: boolean;
}

/** Attention with added keys and values (diffusers' AttnAddedKVProcessor): those of the text come before the image's. */
export function simpleAttention(net: StageList, x: Field, module: string, options: SimpleAttentionOptions): Field {
  const { groups, heads, onlyCross } = options;
  const { channels } = x;
  if (net.crossAttention) {
    throw new ArgumentError(
      `${module} attends to the image and the text at once, so its cross-attention cannot be kept alone.`,
    );
  }
  return net.field(module, "frame", { fields: [x], also: [CONTEXT] }, x, ([value], features, weights) => {
    const w = weights.at(module);
    const pictures = groupNorm(toPictures(value!, x), groups, ATTENTION_NORM_EPSILON, w.at("group_norm"));
    const normed = toField(pictures, value!.shape);
    const [batch] = value!.shape as [Dim];
    const rows = reshape(normed, [batch, -1, channels]);
    const context = features[CONTEXT]!;
    const project = (states: Value, name: string) => linear(states, w.at(name), channels);
    const keysAndValues = ["k", "v"].map((name) => {
      const ofText = project(context, `add_${name}_proj`);
      return onlyCross ? ofText : concat([ofText, project(rows, `to_${name}`)], 1);
    }) as [Value, Value];
    const mixed = attention(project(rows, "to_q"), ...keysAndValues, heads);
    return add(value!, reshape(linear(mixed, w.at("to_out").at(0), channels), value!.shape));
  });
}

/** A resnet that halves or doubles height and width. */
export function resizingResnet(
  net: StageList,
  x: Field,
  module: string,
  to: "half" | "twice",
  given: ResnetOptions,
): Field {
  const side = (value: number) => (to === "half" ? Math.floor(value / 2) : 2 * value);
  const size = { height: side(x.height), width: side(x.width), channels: x.channels };
  const resize = (pictures: Value) =>
    to === "half" ? averagePool2d(pictures, 2, { stride: 2 }) : upsampleNearest(pictures);
  return net.field(module, "frame", { fields: [x], also: [TIME] }, size, ([value], features, weights) => {
    const { shape } = value!;
    const pictures = toPictures(value!, x);
    const options = { ...given, resize };
    return toField(resnetBlock(pictures, features[TIME]!, shape[1]!, weights.at(module), x.channels, options), shape);
  });
}
