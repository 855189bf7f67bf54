import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lagrangeIntegrals } from "../../src/schedulers/lagrange.ts";

/** Simpson's rule from `from` to 0. */
function integral(f: (v: number) => number, from: number): number {
  const n = 2000;
  let sum = f(from) + f(0);
  for (let i = 1; i < n; i++) sum += f(from - (from * i) / n) * (i % 2 === 0 ? 2 : 4);
  return (sum * -from) / (3 * n);
}

describe("integrals of Lagrange polynomials", () => {
  const step = fc.record({
    rate: fc.constantFrom(0, -1, 1, 2),
    from: fc.double({ min: -3, max: 3, noNaN: true }).filter((x) => Math.abs(x) > 0.01),
    gaps: fc.array(fc.double({ min: 0.1, max: 2, noNaN: true }), { maxLength: 3 }),
  });

  it("are what Simpson's rule finds, for one to four nodes and any exponential", () => {
    fc.assert(
      fc.property(step, ({ rate, from, gaps }) => {
        const nodes = [from];
        for (const gap of gaps) nodes.push(nodes.at(-1)! + Math.sign(from) * gap);
        const weights = lagrangeIntegrals(rate, from, nodes);
        for (const [i, weight] of weights.entries()) {
          const basis = (v: number) =>
            nodes.reduce((product, x, j) => (j === i ? product : (product * (v - x)) / (nodes[i]! - x)), 1);
          const expected = integral((v) => Math.exp(rate * v) * basis(v), from);
          expect(Math.abs(weight - expected)).toBeLessThan(1e-8 * Math.max(1, Math.abs(expected)));
        }
      }),
    );
  });

  it("of even steps are Adams and Bashforth's weights", () => {
    const weights = lagrangeIntegrals(0, -1, [-1, -2, -3, -4]);
    for (const [i, w] of [55 / 24, -59 / 24, 37 / 24, -9 / 24].entries()) expect(weights[i]).toBeCloseTo(w, 12);
  });
});
