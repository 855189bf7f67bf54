/** transformers' names of the activation functions that text encoders use. */
import { gelu, quickGelu, relu, silu, tanh } from "../graph/operators.ts";
import type { Value } from "../graph/value.ts";

const tanhGelu = (x: Value) => gelu(x, "tanh");

export const activations = {
  gelu: (x: Value) => gelu(x),
  gelu_fast: tanhGelu,
  gelu_new: tanhGelu,
  gelu_pytorch_tanh: tanhGelu,
  quick_gelu: (x: Value) => quickGelu(x),
  relu,
  silu,
  swish: silu,
  tanh,
} as const satisfies Record<string, (x: Value) => Value>;

export type Activation = keyof typeof activations;
export const activationNames = Object.keys(activations) as Activation[];
