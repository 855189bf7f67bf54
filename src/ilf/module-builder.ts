/** What the two kinds of feedback modules say to the model that is built of them (`feedback-module.ts`). */

import type { Value } from "../graph/value.ts";
import type { Features } from "../models/architecture.ts";
import type { Weights } from "../models/weights.ts";
import type { StreamPart } from "./stream-names.ts";

/** Of one of the features that run through the blocks: what the last step left, and what is known at this one. */
export type StreamInputs = Readonly<Partial<Record<StreamPart, Value>>>;

export interface ModuleBuilder {
  /** What it reads of each stream beside what was carried. */
  readonly reads: readonly StreamPart[];
  /** Whether it reads the timestep itself, beside the block that it has. */
  readonly readsTime: boolean;
  /** g, the input of block F, from the parts of a stream that are read. [batch, patches, width] */
  start(stream: StreamInputs, w: Weights, features: Features): Value;
  /** What the block's change of g is multiplied by: [width], or with one row for each image. */
  scale(width: number, w: Weights, features: Features): Value;
}
