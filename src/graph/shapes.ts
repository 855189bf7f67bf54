/** Operators that move elements and leave their values alone, and the rules by which shapes fit together. */
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../tensor.ts";
import {
  type Dim,
  describe,
  int64s,
  makeNode,
  makeValue as node,
  normaliseAxis,
  scalar,
  staticDim,
  staticShape,
  type Value,
} from "./value.ts";

/** The shape two operands broadcast to, by NumPy's rules; named dimensions equal only themselves. */
export function broadcastShapes(a: readonly Dim[], b: readonly Dim[], operation: string): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const left = a[i - rank + a.length] ?? 1;
    const right = b[i - rank + b.length] ?? 1;
    if (left === right || right === 1) return left;
    if (left === 1) return right;
    throw new ShapeError(`${operation}: shapes ${describe(a)} and ${describe(b)} do not broadcast`);
  });
}

/** Checks that `from` broadcasts to exactly `to`. */
export function broadcastInto(from: readonly Dim[], to: readonly Dim[], operation: string): void {
  if (describe(broadcastShapes(from, to, operation)) !== describe(to)) {
    throw new ShapeError(`${operation}: shape ${describe(from)} does not broadcast to ${describe(to)}`);
  }
}

const count = (shape: readonly Dim[]) => {
  const named = shape.filter((dim) => typeof dim === "string").sort();
  return {
    known: shape.reduce<number>((n, dim) => (typeof dim === "number" ? n * dim : n), 1),
    named: named.join("*"),
  };
};

/**
 * Same elements, another shape. At most one dimension may be -1 (worked out) or a name that the input does not have at
 * the same place; named dimensions of the input that are merged away give the new one its name.
 */
export function reshape(x: Value, to: readonly Dim[]): Value {
  const shape = to.map((dim, i) => (dim === 0 ? x.shape[i]! : dim));
  const from = count(x.shape);
  const asked = count(shape);
  const open = shape.indexOf(-1);
  if (open >= 0) {
    const rest = count(shape.filter((_, i) => i !== open));
    const named = from.named === rest.named ? "" : from.named;
    const size = from.known / rest.known;
    shape[open] = named === "" ? size : size === 1 ? named : `${named}*${size}`;
    if (named === "" && !Number.isInteger(size)) {
      throw new ShapeError(`reshape: ${describe(x.shape)} does not fit ${describe(to)}`);
    }
  } else if (from.named === asked.named ? from.known !== asked.known : from.named === "") {
    throw new ShapeError(`reshape: ${describe(x.shape)} does not fit ${describe(to)}`);
  }
  const copied = shape.map((dim, i) => typeof dim === "string" && x.shape[i] === dim && i !== open);
  const target = shape.map((dim, i) => (copied[i] ? 0 : typeof dim === "string" ? -1 : dim));
  if (target.filter((dim) => dim === -1).length > 1) {
    throw new ShapeError(`reshape: more than one unknown dimension from ${describe(x.shape)} to ${describe(to)}`);
  }
  return node("Reshape", [x, int64s(target)], { dtype: x.dtype, shape });
}

export function transpose(x: Value, permutation: readonly number[]): Value {
  if ([...permutation].sort((a, b) => a - b).some((axis, i) => axis !== i) || permutation.length !== x.shape.length) {
    throw new ShapeError(`transpose: [${permutation}] is not a permutation of the axes of ${describe(x.shape)}`);
  }
  return node("Transpose", [x], { dtype: x.dtype, shape: permutation.map((i) => x.shape[i]!) }, { perm: permutation });
}

/** x[start:end] on one axis; a negative step reads backwards from `start` to before `end`. */
export function slice(x: Value, axis: number, start: number, end: number, step = 1): Value {
  const at = normaliseAxis(axis, x.shape.length, "slice");
  const dim = staticDim(x, at, "slice");
  const length = Math.max(0, Math.ceil((end - start) / step));
  if (step > 0 ? start < 0 || end > dim : start >= dim || end < -1) {
    throw new ShapeError(`slice: ${start} to ${end} is outside axis ${axis} of ${describe(x.shape)}`);
  }
  const shape = x.shape.with(at, length);
  // Backwards to before index 0: ONNX wants an end that is certainly below the first element.
  const last = end < 0 ? -dim - 1 : end;
  const inputs = [x, int64s([start]), int64s([last]), int64s([at]), int64s([step])];
  return node("Slice", inputs, { dtype: x.dtype, shape });
}

/** x with the elements of some axes in opposite order. */
export function flip(x: Value, axes: readonly number[]): Value {
  return axes.reduce((result, axis) => {
    const dim = staticDim(result, axis, "flip");
    return slice(result, axis, dim - 1, -1, -1);
  }, x);
}

/** Equal parts of one axis. */
export function split(x: Value, parts: number, axis = -1): readonly Value[] {
  const at = normaliseAxis(axis, x.shape.length, "split");
  const dim = staticDim(x, at, "split");
  if (dim % parts !== 0)
    throw new ShapeError(`split: axis ${axis} of ${describe(x.shape)} is not ${parts} equal parts`);
  const part = { dtype: x.dtype, shape: x.shape.with(at, dim / parts) };
  return makeNode("Split", [x], new Array(parts).fill(part), { axis: at, num_outputs: parts });
}

export function concat(values: readonly Value[], axis: number): Value {
  const first = values[0]!;
  const at = normaliseAxis(axis, first.shape.length, "concat");
  const fixed = (shape: readonly Dim[]) => describe(shape.filter((_, i) => i !== at));
  const rank = first.shape.length;
  const bad = values.find(({ shape }) => shape.length !== rank || fixed(shape) !== fixed(first.shape));
  if (bad) throw new ShapeError(`concat on axis ${axis}: ${describe(first.shape)} and ${describe(bad.shape)}`);
  const total = values.reduce((sum, value) => sum + staticDim(value, at, "concat"), 0);
  return node("Concat", values, { dtype: first.dtype, shape: first.shape.with(at, total) }, { axis: at });
}

/** Zeros around a tensor: how many before and after on each axis. */
export function pad(x: Value, before: readonly number[], after: readonly number[]): Value {
  if (before.length !== x.shape.length || after.length !== x.shape.length) {
    throw new ShapeError(`pad: [${before}] and [${after}] are not one number for each axis of ${describe(x.shape)}`);
  }
  const shape = x.shape.map((dim, i) => {
    const extra = before[i]! + after[i]!;
    return typeof dim === "number" ? dim + extra : extra === 0 ? dim : `${dim}+${extra}`;
  });
  return node("Pad", [x, int64s([...before, ...after]), scalar(0, x.dtype)], { dtype: x.dtype, shape });
}

/** x repeated along its dimensions of size 1 until it has `shape`, in which a 1 leaves a dimension as it is. */
export function expand(x: Value, shape: readonly number[]): Value {
  return node("Expand", [x, int64s(shape)], { dtype: x.dtype, shape: broadcastShapes(x.shape, shape, "expand") });
}

/** Rows of a table [rows, ...] by index; indices may have any shape. */
export function gather(table: Value, indices: Value): Value {
  const shape = [...indices.shape, ...table.shape.slice(1)];
  return node("Gather", [table, indices], { dtype: table.dtype, shape }, { axis: 0 });
}

/**
 * base with `updates` added at rows `indices`; the gradient of gather. As ScatterElements, since ONNX Runtime's ScatterND
 * loses additions to a repeated row when it runs on several threads (its issue 18048).
 */
export function scatterAdd(base: Value, indices: Value, updates: Value): Value {
  const expected = [...indices.shape, ...base.shape.slice(1)];
  if (describe(updates.shape) !== describe(expected)) {
    throw new ShapeError(`scatterAdd: updates are ${describe(updates.shape)}, but indices need ${describe(expected)}`);
  }
  const width = sizeOf(staticShape(base, "scatterAdd").slice(1));
  const flat = reshape(base, [base.shape[0]!, width]);
  const everywhere = expand(reshape(indices, [-1, 1]), [1, width]);
  const attributes = { axis: 0, reduction: "add" };
  return reshape(
    node("ScatterElements", [flat, everywhere, reshape(updates, [-1, width])], flat, attributes),
    base.shape,
  );
}
