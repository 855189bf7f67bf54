/**
 * Builds UNets as a list of stages. Every feature is named after the stage that writes it, and has the layout
 * [batch, frames, positions, channels], so that some of its frames and some of its positions are both slices of it.
 */
import { reshape, transpose } from "../../graph/operators.ts";
import { type Dim, staticDim, type Value } from "../../graph/value.ts";
import type { CrossAttention, Features, Layout, Role, Stage, UNetPlace } from "../architecture.ts";
import type { Weights } from "../weights.ts";

/** The text, or whatever else cross-attention attends to: [batch, tokens, width]. */
export const CONTEXT = "encoderHiddenStates";

/** Height and width, in elements of the latent at the current resolution. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** A feature between two stages: [batch, frames, height * width, channels]. An image has one frame. */
export interface Field extends Size {
  readonly name: string;
  readonly channels: number;
}

/** A part of a stage that writes a field, which is named like it. */
export interface FieldPiece {
  readonly name: string;
  /** The stage's own unless given. */
  readonly axis?: Stage["axis"];
  readonly reads: readonly string[];
  readonly layout: Layout;
  readonly build: Stage["build"];
}

/** Collects the stages of a model, with what they have in common. */
export class StageList {
  readonly stages: Stage[] = [];
  readonly batch: Dim;
  readonly frames: number;
  readonly crossAttention: CrossAttention | undefined;
  /** What cross-attention adds, where it is an output or an input of the network. */
  readonly attended = new Map<string, Layout>();
  readonly #layouts: Map<string, Layout>;
  #role: Role = "enter";
  #place: UNetPlace | undefined;

  constructor(batch: Dim, frames: number, inputs: Readonly<Record<string, Layout>>, crossAttention?: CrossAttention) {
    this.batch = batch;
    this.frames = frames;
    this.crossAttention = crossAttention;
    this.#layouts = new Map(Object.entries(inputs));
  }

  /** Sets the place of the stages appended from now on. `place.skip`: a feature that the stage that reads it joins. */
  at(place: UNetPlace): void {
    this.#role = "block";
    this.#place = place;
  }

  /** The stages appended from now on compute the output. */
  leave(): void {
    this.#role = "leave";
    this.#place = undefined;
  }

  /** Appends a stage. Everything that it reads must be an input or written by an earlier stage. */
  add(
    name: string,
    axis: Stage["axis"],
    reads: readonly string[],
    writes: Readonly<Record<string, Layout>>,
    build: Stage["build"],
    pieces?: readonly FieldPiece[],
  ): void {
    const made = pieces?.map((piece) =>
      this.#stage(piece.name, piece.axis ?? axis, piece.reads, { [piece.name]: piece.layout }, piece.build),
    );
    const stage = this.#stage(name, axis, reads, writes, build);
    this.stages.push(made ? { ...stage, pieces: made } : stage);
  }

  #stage(
    name: string,
    axis: Stage["axis"],
    reads: readonly string[],
    writes: Readonly<Record<string, Layout>>,
    build: Stage["build"],
  ): Stage {
    const read = Object.fromEntries(reads.map((feature) => [feature, this.#layouts.get(feature)!]));
    const place = this.#placeOf(reads);
    const where = { role: this.#role, ...(place && { place }) };
    for (const [feature, layout] of Object.entries(writes)) this.#layouts.set(feature, layout);
    return { name, ...where, axis, reads, writes: Object.keys(writes), layouts: { ...read, ...writes }, build };
  }

  #placeOf(reads: readonly string[]): UNetPlace | undefined {
    if (!this.#place?.skip || reads.includes(this.#place.skip)) return this.#place;
    const { skip: _, ...place } = this.#place;
    return place;
  }

  /**
   * Declares what a stage's cross-attentions to the text add, each under a name of its own. Gives what the stage has to read, the text or
   * all of these, and what it writes beside its field.
   */
  attends(names: readonly string[], x: Field): { reads: readonly string[]; writes: Readonly<Record<string, Layout>> } {
    if (!this.crossAttention) return { reads: [CONTEXT], writes: {} };
    const layouts = Object.fromEntries(names.map((name) => [name, this.#layoutOf(x)]));
    for (const [name, layout] of Object.entries(layouts)) {
      this.attended.set(name, layout);
      this.#layouts.set(name, layout);
    }
    return this.crossAttention === "kept" ? { reads: [CONTEXT], writes: layouts } : { reads: names, writes: {} };
  }

  #layoutOf({ height, width, channels }: Omit<Field, "name">): Layout {
    return { batch: this.batch, frame: this.frames, position: height * width, channel: channels };
  }

  /**
   * Appends a stage that computes a field, named like the stage, from others. `build` receives them and the features in
   * `also`, and returns [batch, frames, height * width, channels]. What is in `writes` it puts into `written`. `pieces`: the same in
   * several stages, the last of which writes this field; each writes one of the same size.
   */
  field(
    name: string,
    axis: "frame" | "position",
    given: {
      readonly fields: readonly Field[];
      readonly also?: readonly string[];
      readonly writes?: Readonly<Record<string, Layout>>;
    },
    { height, width, channels }: Omit<Field, "name">,
    build: (fields: readonly Value[], features: Features, weights: Weights, written: Record<string, Value>) => Value,
    pieces?: readonly Omit<FieldPiece, "layout">[],
  ): Field {
    const { fields, also = [], writes = {} } = given;
    const names = fields.map((field) => field.name);
    const layout = this.#layoutOf({ height, width, channels });
    const work: Stage["build"] = (features, weights) => {
      const values = names.map((field) => features[field]!);
      const written: Record<string, Value> = {};
      const value = build(values, features, weights, written);
      return { [name]: value, ...written };
    };
    const laidOut = pieces?.map((piece) => ({ ...piece, layout }));
    this.add(name, axis, [...names, ...also], { [name]: layout, ...writes }, work, laidOut);
    return { name, height, width, channels };
  }
}

/** The images from which a field's value was just made: within one session they need not be transposed back. */
const madeOf = new WeakMap<Value, Value>();

/** A field's value in the layout of convolutions: [batch * frames, channels, height, width]. */
export function toPictures(field: Value, { height, width }: Size): Value {
  const rows = () => reshape(field, [-1, height, width, staticDim(field, -1, "toPictures")]);
  return madeOf.get(field) ?? transpose(rows(), [0, 3, 1, 2]);
}

/** The reverse, to the batch and the frames of a field of this shape. */
export function toField(pictures: Value, [batch, frames]: readonly Dim[]): Value {
  const [, channels, height, width] = pictures.shape as [Dim, number, number, number];
  const field = reshape(transpose(pictures, [0, 2, 3, 1]), [batch!, frames!, height * width, channels]);
  madeOf.set(field, pictures);
  return field;
}
