import { ArgumentError } from "../errors.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import type { Tensor } from "../tensor.ts";
import { compare, type OutputError, reference } from "./compare.ts";

/** Seeds, and for each the shapes of successive draws. */
export interface RngCase {
  readonly cases: readonly { readonly seed: number | bigint; readonly draws: readonly (readonly number[])[] }[];
}

/**
 * TorchGenerator against stored `torch.randn` draws: `seed<s>.draw<i>` is the i-th after seeding with s.
 * What counts is maxAbs, at most 1e-6. Throws ArgumentError if `config` is not such a case or draws are missing.
 */
export function verifyRng(config: Readonly<Record<string, unknown>>, io: ReadonlyMap<string, Tensor>): OutputError[] {
  const { cases } = config;
  if (!Array.isArray(cases)) throw new ArgumentError('A case of random numbers needs a list "cases".');
  return (cases as RngCase["cases"]).flatMap(({ seed, draws }) => {
    const generator = new TorchGenerator(seed);
    return draws.map((shape, i) => {
      const name = `seed${seed}.draw${i}`;
      return compare(name, generator.randn(shape).data, reference(io, name, "float32").data);
    });
  });
}
