/**
 * How UNets are written down as stages. Every feature has one name, that of the stage that writes it, and lies as
 * [batch, frames, positions, channels], so that a part of its frames and a part of its positions are both slices of it.
 */
import { reshape, transpose } from "../../graph/operators.ts";
import { type Dim, staticDim, type Value } from "../../graph/value.ts";
import type { Features, Layout, Role, Stage, UNetPlace } from "../architecture.ts";
import type { Weights } from "../weights.ts";

/** Height and width, in elements of the latent or of what it was halved to. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** A feature between two stages: [batch, frames, height * width, channels]. A picture has one frame. */
export interface Field extends Size {
  readonly name: string;
  readonly channels: number;
}

/** What the stages of a model have in common, and the stages so far. */
export class StageList {
  readonly stages: Stage[] = [];
  readonly batch: Dim;
  readonly frames: number;
  readonly #layouts: Map<string, Layout>;
  #role: Role = "enter";
  #place: UNetPlace | undefined;

  constructor(batch: Dim, frames: number, inputs: Readonly<Record<string, Layout>>) {
    this.batch = batch;
    this.frames = frames;
    this.#layouts = new Map(Object.entries(inputs));
  }

  /** Where the stages are that are appended from now on. `place.skip`: a feature that one of them joins, if it reads it. */
  at(place: UNetPlace): void {
    this.#role = "block";
    this.#place = place;
  }

  /** What is appended from now on makes the output. */
  leave(): void {
    this.#role = "leave";
    this.#place = undefined;
  }

  /** Appends a stage. Everything that it reads must be an input or written by a stage before. */
  add(
    name: string,
    axis: Stage["axis"],
    reads: readonly string[],
    writes: Readonly<Record<string, Layout>>,
    build: Stage["build"],
  ): void {
    const read = Object.fromEntries(reads.map((feature) => [feature, this.#layouts.get(feature)!]));
    const layouts = { ...read, ...writes };
    const place = this.#placeOf(reads);
    const where = { role: this.#role, ...(place && { place }) };
    this.stages.push({ name, ...where, axis, reads, writes: Object.keys(writes), layouts, build });
    for (const [feature, layout] of Object.entries(writes)) this.#layouts.set(feature, layout);
  }

  #placeOf(reads: readonly string[]): UNetPlace | undefined {
    if (!this.#place?.skip || reads.includes(this.#place.skip)) return this.#place;
    const { skip: _, ...place } = this.#place;
    return place;
  }

  /**
   * Appends a stage that makes a field, of the stage's name, out of others. `build` is given them and the features in
   * `also`, and gives [batch, frames, height * width, channels].
   */
  field(
    name: string,
    axis: "frame" | "position",
    reads: { readonly fields: readonly Field[]; readonly also?: readonly string[] },
    { height, width, channels }: Omit<Field, "name">,
    build: (fields: readonly Value[], features: Features, weights: Weights) => Value,
  ): Field {
    const { fields, also = [] } = reads;
    const names = fields.map((field) => field.name);
    const layout = { batch: this.batch, frame: this.frames, position: height * width, channel: channels };
    this.add(name, axis, [...names, ...also], { [name]: layout }, (features, weights) => {
      const values = names.map((field) => features[field]!);
      return { [name]: build(values, features, weights) };
    });
    return { name, height, width, channels };
  }
}

/** The pictures that a field's value was just made of: within one session there is nothing to turn around. */
const madeOf = new WeakMap<Value, Value>();

/** A field's value as convolutions want it: [batch * frames, channels, height, width]. */
export function toPictures(field: Value, { height, width }: Size): Value {
  const rows = () => reshape(field, [-1, height, width, staticDim(field, -1, "toPictures")]);
  return madeOf.get(field) ?? transpose(rows(), [0, 3, 1, 2]);
}

/** And back, to the batch and the frames that a field of this shape has. */
export function toField(pictures: Value, [batch, frames]: readonly Dim[]): Value {
  const [, channels, height, width] = pictures.shape as [Dim, number, number, number];
  const field = reshape(transpose(pictures, [0, 2, 3, 1]), [batch!, frames!, height * width, channels]);
  madeOf.set(field, pictures);
  return field;
}
