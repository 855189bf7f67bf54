/**
 * diffusers' "simple" blocks (SimpleCrossAttnDownBlock2D and its kin, of unCLIP's and IF's UNets): one attention sees the
 * picture and the text at once, and a resnet without a convolution of its own halves or doubles the size.
 */
import { add, attention, concat, reshape, upsampleNearest } from "../../graph/operators.ts";
import { averagePool2d } from "../../graph/pooling.ts";
import type { Dim, Value } from "../../graph/value.ts";
import { groupNorm, linear } from "../layers.ts";
import { CONTEXT, type ResnetOptions, resnetBlock, TIME } from "./layers.ts";
import { type Field, type StageList, toField, toPictures } from "./stages.ts";

/** diffusers builds the attention's norm with its own default, whatever the resnets have. */
const ATTENTION_NORM_EPSILON = 1e-5;

export interface SimpleAttentionOptions {
  groups: number;
  heads: number;
  /** Whether the picture is not looked at, only the text. */
  onlyCross: boolean;
}

/** Attention with added keys and values (diffusers' AttnAddedKVProcessor): those of the text before the picture's. */
export function simpleAttention(net: StageList, x: Field, module: string, options: SimpleAttentionOptions): Field {
  const { groups, heads, onlyCross } = options;
  const { channels } = x;
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
