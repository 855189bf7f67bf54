/**
 * Feature Slicer (Zhan et al. 2024, arXiv 2411.01171): parts of a feature along the axis on which a stage's computation is
 * independent. Contiguous parts are views; others are copied piece by piece, at the speed of memory.
 */
import { ArgumentError } from "../errors.ts";

/** From `start` up to `end`. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Some rows of the batch, and a range of one axis. */
export interface Part {
  readonly rows: Range;
  readonly axis: string;
  readonly range: Range;
}

/** A feature's dimensions by name, in order, with their sizes in a run. */
export type Sizes = Readonly<Record<string, number>>;

export const lengthOf = ({ start, end }: Range) => end - start;

/**
 * Where a part of a feature is in memory: `runs` pieces of `run` elements, the first at `offset`, the next `stride`
 * further on.
 */
export interface Placement {
  readonly shape: readonly number[];
  readonly offset: number;
  readonly runs: number;
  readonly run: number;
  readonly stride: number;
}

const product = (values: readonly number[]) => values.reduce((a, b) => a * b, 1);

/**
 * Where a part of a feature is. A feature without the batch or the axis is not divided along it. Throws ArgumentError
 * if the batch is not the first dimension.
 */
export function placementOf(sizes: Sizes, { rows, axis, range }: Part): Placement {
  const [names, dims] = [Object.keys(sizes), Object.values(sizes)];
  const batch = names.indexOf("batch");
  if (batch > 0)
    throw new ArgumentError(`A feature of dimensions ${names.join(", ")} cannot be cut: batch comes first.`);
  const at = names.indexOf(axis);
  const shape = dims.map((size, i) => (i === batch ? lengthOf(rows) : i === at ? lengthOf(range) : size));
  const rowSize = product(dims.slice(batch + 1));
  const from = batch === 0 ? rows.start * rowSize : 0;
  const rowCount = batch === 0 ? lengthOf(rows) : 1;
  if (at < 0 || lengthOf(range) === dims[at]) {
    return { shape, offset: from, runs: 1, run: rowCount * rowSize, stride: 0 };
  }
  const inner = product(dims.slice(at + 1));
  const runs = rowCount * product(dims.slice(batch + 1, at));
  return { shape, offset: from + range.start * inner, runs, run: lengthOf(range) * inner, stride: dims[at]! * inner };
}

export const isView = ({ runs }: Placement) => runs === 1;

/** What a feature consists of: numbers, or class numbers and token ids. */
export type Elements = Float32Array | BigInt64Array;

/** The elements of a part that is a view. */
export function viewOf<E extends Elements>(data: E, { offset, run }: Placement): E {
  return data.subarray(offset, offset + run) as E;
}

export function gather(from: Float32Array, { offset, runs, run, stride }: Placement, to: Float32Array): void {
  for (let i = 0; i < runs; i++) {
    const start = offset + i * stride;
    to.set(from.subarray(start, start + run), i * run);
  }
}

export function scatter(from: Float32Array, { offset, runs, run, stride }: Placement, to: Float32Array): void {
  for (let i = 0; i < runs; i++) to.set(from.subarray(i * run, (i + 1) * run), offset + i * stride);
}

/** `count` parts of 0..length whose lengths differ by at most one, the longer ones first. */
export function evenParts(length: number, count: number): Range[] {
  const [least, more] = [Math.floor(length / count), length % count];
  let start = 0;
  return Array.from({ length: count }, (_, i) => {
    const range = { start, end: start + least + (i < more ? 1 : 0) };
    start = range.end;
    return range;
  });
}
