/** A model's parameters in one flat array, so that an optimiser is one loop and a checkpoint one write. */
import { ArgumentError, CheckpointError } from "../errors.ts";
import { type FloatTensor, sizeOf, type Tensor } from "../tensor.ts";

interface Slot {
  readonly shape: readonly number[];
  readonly start: number;
  readonly end: number;
}

export class Parameters {
  readonly slots: ReadonlyMap<string, Slot>;
  /** Every parameter one after the other, in the order of `shapes`. */
  readonly values: Float32Array;

  constructor(shapes: ReadonlyMap<string, readonly number[]>) {
    const slots = new Map<string, Slot>();
    let end = 0;
    for (const [name, shape] of shapes) {
      const start = end;
      end += sizeOf(shape);
      slots.set(name, { shape, start, end });
    }
    this.slots = slots;
    this.values = new Float32Array(end);
  }

  get size(): number {
    return this.values.length;
  }

  /** The parameters (or another array of the same layout: gradients, averages) as tensors that are views of it. */
  tensors(flat: Float32Array = this.values, prefix = ""): Record<string, FloatTensor> {
    if (flat.length !== this.size) throw new ArgumentError(`${flat.length} values are not ${this.size} parameters`);
    const tensors: Record<string, FloatTensor> = {};
    for (const [name, { shape, start, end }] of this.slots) {
      tensors[prefix + name] = { dtype: "float32", shape, data: flat.subarray(start, end) };
    }
    return tensors;
  }

  /** Takes over the tensors of a checkpoint. Throws CheckpointError for one that is missing or has another size. */
  async load(read: (name: string) => Promise<Tensor>, flat: Float32Array = this.values): Promise<void> {
    for (const [name, { start, end, shape }] of this.slots) {
      const { data, dtype } = await read(name);
      if (dtype !== "float32" || data.length !== end - start) {
        throw new CheckpointError(`tensor "${name}": ${dtype} with ${data.length} elements, but [${shape}] is needed`);
      }
      flat.set(data as Float32Array, start);
    }
  }
}

/**
 * Initial values: normal with the deviation that `special` gives, or else 1/sqrt(fan in), which keeps the variance; norm
 * weights 1, biases and other vectors 0.
 */
export function initialise(
  parameters: Parameters,
  random: () => number,
  special: (name: string, shape: readonly number[]) => number | undefined = () => undefined,
): void {
  for (const [name, { shape, start, end }] of parameters.slots) {
    const deviation = special(name, shape) ?? defaultDeviation(name, shape);
    for (let i = start; i < end; i++) parameters.values[i] = deviation === 0 ? 0 : deviation * gaussian(random);
    if (shape.length === 1 && name.endsWith("weight")) parameters.values.fill(1, start, end);
  }
}

function defaultDeviation(name: string, shape: readonly number[]): number {
  if (shape.length < 2 || name.endsWith("bias")) return 0;
  return 1 / Math.sqrt(sizeOf(shape.slice(1)));
}

function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
