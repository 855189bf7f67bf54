/** A block of a transformer over image patches, whole or cut after the keys and values of its self-attention. */
import type { Value } from "../graph/value.ts";
import type { Features } from "./architecture.ts";
import type { BareStage } from "./features.ts";
import { type AttentionOptions, attend, keysAndValues, queries } from "./layers.ts";
import type { PatchTransformerConfig } from "./patch-transformer.ts";
import type { Weights } from "./weights.ts";

/** `normed` is what attention reads; `rest` makes the block's output of what attention gives. */
export class SelfAttentionBlock {
  readonly #width: number;
  readonly #layer: AttentionOptions;
  readonly #w: Weights;
  readonly #normed: () => Value;
  readonly #rest: (attended: Value) => Value;

  /** `w`: of the block; its attention is `attn1`. */
  constructor(
    { heads, width, attentionBias: bias }: PatchTransformerConfig,
    w: Weights,
    normed: () => Value,
    rest: (attended: Value) => Value,
  ) {
    this.#width = width;
    this.#layer = { heads, inner: width, bias };
    this.#w = w.at("attn1");
    this.#normed = normed;
    this.#rest = rest;
  }

  whole(): Value {
    const x = this.#normed();
    return this.#attended(queries(x, this.#w, this.#layer), keysAndValues(x, this.#w, this.#layer));
  }

  keysAndValues(): readonly [keys: Value, values: Value] {
    return keysAndValues(this.#normed(), this.#w, this.#layer);
  }

  /** The same as `whole`, also for some positions alone if the keys and values are those of all. */
  from(keys: Value, values: Value): Value {
    return this.#attended(queries(this.#normed(), this.#w, this.#layer), [keys, values]);
  }

  #attended(q: Value, context: readonly [Value, Value]): Value {
    return this.#rest(attend(q, context, this.#w, this.#layer, this.#width));
  }
}

/**
 * A block as a planner can cut it: its keys and values first, from `attentionReads`; the rest, from `reads` and them, is independent
 * for each position.
 */
export function attentionPieces(
  name: string,
  {
    attentionReads,
    reads,
    writes,
  }: { attentionReads: readonly string[]; reads: readonly string[]; writes: readonly string[] },
  blockOf: (features: Features, w: Weights) => SelfAttentionBlock,
): NonNullable<BareStage["pieces"]> {
  return [
    {
      name: `${name}.attn1`,
      role: "block",
      axis: "whole",
      reads: attentionReads,
      writes: ["keys", "values"],
      build: (features, weights) => {
        const [keys, values] = blockOf(features, weights.at(name)).keysAndValues();
        return { keys, values };
      },
    },
    {
      name,
      role: "block",
      axis: "position",
      reads: [...reads, "keys", "values"],
      writes,
      build: (features, weights) => {
        const { keys, values } = features;
        return { hiddenStates: blockOf(features, weights.at(name)).from(keys!, values!) };
      },
    },
  ];
}
