/**
 * The conditions of Stable Diffusion XL's UNet besides the timestep (Podell et al. 2023, arXiv 2307.01952, section 2.2;
 * diffusers' addition_embed_type "text_time"): the text's pooled state, and the sizes and crop that the image should look like.
 */
import { ArgumentError, ConfigError } from "../../errors.ts";
import { concat, reshape } from "../../graph/operators.ts";
import type { Dim } from "../../graph/value.ts";
import type { Geometry } from "../architecture.ts";
import { type ConfigReader, MOST_WIDTH } from "../config.ts";
import type { Count } from "../counts.ts";
import { type SinusoidOptions, sinusoidalEmbedding, timestepEmbedding } from "../layers.ts";
import type { AddedTime } from "./unet.ts";

/** The conditions of Stable Diffusion XL's UNet besides the timestep: pooled text, and sizes as six numbers. */
export interface TextTime {
  /** Sinusoids per number. */
  timeWidth: number;
  /** Total width of the pooled text and the sinusoids of all numbers. */
  inputs: number;
}

/** Original height and width, the crop's top and left, target height and width. */
const TIME_IDS = 6;

/** Null for a model without these conditions. Throws ConfigError. */
export function parseTextTime(read: ConfigReader, className: string): TextTime | null {
  const type = read.choiceOrNull("addition_embed_type", ["text_time"], null);
  if (type === null) return null;
  const timeWidth = read.integer("addition_time_embed_dim", undefined, 1, MOST_WIDTH);
  const inputs = read.integer("projection_class_embeddings_input_dim", undefined, 1, MOST_WIDTH);
  if (timeWidth % 2 === 0 && inputs > timeWidth) return { timeWidth, inputs };
  throw new ConfigError(
    `${className}: config "addition_time_embed_dim" is ${timeWidth} and "projection_class_embeddings_input_dim" ` +
      `${inputs}; supported is an even number, and a larger one.`,
  );
}

export const textTimeCounts = ({ inputs: size }: TextTime): Count[] => [
  { key: "projection_class_embeddings_input_dim", tensor: "add_embedding.linear_1.weight", axis: 1, size },
];

/** Widths of the inputs `textEmbeds` and `timeIds`. Throws ArgumentError for more numbers than the model has room for. */
export function textTimeWidths({ timeWidth, inputs }: TextTime, { timeIds = TIME_IDS }: Geometry, className: string) {
  const text = inputs - timeIds * timeWidth;
  if (Number.isInteger(timeIds) && timeIds > 0 && text > 0) return { text, numbers: timeIds };
  throw new ArgumentError(
    `${className}: ${timeIds} numbers beside the text; of its config's "projection_class_embeddings_input_dim" ${inputs} ` +
      `each takes ${timeWidth}, and the text needs some.`,
  );
}

export const textTimeInputs = ({ text, numbers }: { text: number; numbers: number }, batch: Dim) => ({
  textEmbeds: { batch, channel: text },
  timeIds: { batch, number: numbers },
});

/** `sinusoids` are those of the timestep. */
export const textTimeEmbedding = ({ timeWidth, inputs }: TextTime, sinusoids: SinusoidOptions = {}): AddedTime => ({
  module: "add_embedding",
  reads: ["textEmbeds", "timeIds"],
  embed: ({ textEmbeds, timeIds }, w, width) => {
    const [batch] = timeIds!.shape;
    const numbers = sinusoidalEmbedding(reshape(timeIds!, [-1]), timeWidth, sinusoids);
    const flat = reshape(numbers, [batch!, (timeIds!.shape[1] as number) * timeWidth]);
    const all = reshape(concat([textEmbeds!, flat], 1), [batch!, inputs]);
    return timestepEmbedding(all, w, width);
  },
});
