/** The embedding of a class or another vector that a UNet2DConditionModel adds to the timestep's (diffusers' class_embedding). */
import { ConfigError } from "../../errors.ts";
import type { Dim, ValueType } from "../../graph/value.ts";
import type { Layout } from "../architecture.ts";
import { type ConfigReader, MOST_WIDTH } from "../config.ts";
import { embedding, linear, type SinusoidOptions, sinusoidalEmbedding, timestepEmbedding } from "../layers.ts";
import type { AddedTime } from "./unet.ts";

/** The kinds of the input `classLabels`. */
export type ClassEmbedding =
  /** Class numbers, int64 [batch]: rows of a table. */
  | { readonly type: "table"; readonly classes: number }
  /** Another timestep, float32 [batch], embedded like the first. */
  | { readonly type: "timestep" }
  /** A vector [batch, 4 * first width], added unchanged. */
  | { readonly type: "identity" }
  /** A vector [batch, inputs] that goes through two linear layers or one. */
  | { readonly type: "projection" | "simple_projection"; readonly inputs: number };

const types = ["timestep", "identity", "projection", "simple_projection"] as const;

/** Null for a model without a class embedding. Throws ConfigError. */
export function parseClassEmbedding(read: ConfigReader, className: string): ClassEmbedding | null {
  const type = read.choiceOrNull("class_embed_type", types, null);
  const classes = read.has("num_class_embeds") ? read.integer("num_class_embeds") : null;
  if (type === null) return classes === null ? null : { type: "table", classes };
  if (type === "timestep" || type === "identity") return { type };
  if (!read.has("projection_class_embeddings_input_dim")) {
    throw new ConfigError(
      `${className}: config "class_embed_type" is "${type}", which needs "projection_class_embeddings_input_dim".`,
    );
  }
  return { type, inputs: read.integer("projection_class_embeddings_input_dim", undefined, 1, MOST_WIDTH) };
}

/** The layout and type of the input `classLabels`; `width` is that of the timestep's embedding. */
export function classLabels(kind: ClassEmbedding, batch: Dim, width: number): { layout: Layout; type: ValueType } {
  switch (kind.type) {
    case "table":
      return { layout: { batch }, type: "int64" };
    case "timestep":
      return { layout: { batch }, type: "float32" };
    case "identity":
      return { layout: { batch, channel: width }, type: "float32" };
    default:
      return { layout: { batch, channel: kind.inputs }, type: "float32" };
  }
}

/** `sinusoids` and `frequencies` (their number) are those of the timestep. */
export function classEmbedding(kind: ClassEmbedding, sinusoids: SinusoidOptions, frequencies: number): AddedTime {
  return {
    module: "class_embedding",
    reads: ["classLabels"],
    embed: ({ classLabels }, w, width) => {
      const labels = classLabels!;
      switch (kind.type) {
        case "table":
          return embedding(labels, w, kind.classes, width);
        case "timestep":
          return timestepEmbedding(sinusoidalEmbedding(labels, frequencies, sinusoids), w, width);
        case "identity":
          return labels;
        case "projection":
          return timestepEmbedding(labels, w, width);
        case "simple_projection":
          return linear(labels, w, width);
      }
    },
  };
}
