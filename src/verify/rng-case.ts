import { describe } from "../checkpoints/files.ts";
import { isObject } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import type { Tensor } from "../tensor.ts";
import { compare, type OutputError, reference } from "./compare.ts";

/** Seeds, and for each the shapes of successive draws. */
export interface RngCase {
  readonly cases: readonly { readonly seed: number | bigint; readonly draws: readonly (readonly number[])[] }[];
}

/**
 * Compares TorchGenerator with stored `torch.randn` draws: `seed<s>.draw<i>` is the i-th draw after seeding with s.
 * maxAbs decides; it may be at most 1e-6. Throws ArgumentError if `config` is not such a case or draws are missing.
 */
export function verifyRng(config: Readonly<Record<string, unknown>>, io: ReadonlyMap<string, Tensor>): OutputError[] {
  const { cases } = config;
  if (!Array.isArray(cases) || cases.length === 0) {
    throw new ArgumentError(`A case of random numbers needs a list "cases", not ${describe(cases)}.`);
  }
  return cases.flatMap((raw: unknown) => {
    const { seed, draws } = readCase(raw);
    const generator = new TorchGenerator(seed);
    return draws.map((shape, i) => {
      const name = `seed${seed}.draw${i}`;
      return compare(name, generator.randn(shape).data, reference(io, name, "float32").data);
    });
  });
}

/** The most values of one draw. */
const MOST_VALUES = 2 ** 24;

function readCase(raw: unknown): RngCase["cases"][number] {
  const { seed, draws } = isObject(raw) ? raw : ({} as Record<string, unknown>);
  if (typeof seed !== "number")
    throw new ArgumentError(`A case of random numbers has the seed ${describe(seed)}, not a number.`);
  if (!Array.isArray(draws) || draws.length === 0) {
    throw new ArgumentError(`The draws of seed ${seed} must be a list of shapes, not ${describe(draws)}.`);
  }
  for (const shape of draws as unknown[]) {
    const whole = Array.isArray(shape) && shape.every((side) => Number.isInteger(side) && side >= 1);
    if (whole && (shape as number[]).reduce((product, side) => product * side, 1) <= MOST_VALUES) continue;
    throw new ArgumentError(
      `A draw of seed ${seed} has the shape ${describe(shape)}; expected whole numbers from 1, at most ${MOST_VALUES} values.`,
    );
  }
  return { seed, draws: draws as number[][] };
}
