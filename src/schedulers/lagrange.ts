/**
 * The integrals from `from` to 0 of e^(rate v) l_i(v), where l_i is the Lagrange polynomial that is 1 at the i-th of the
 * nodes and 0 at the others. These are the weights of the outputs in multistep solvers, which integrate the polynomial
 * through them. In closed form, for at most four distinct nodes. Nodes are relative to the end of the step, which keeps the
 * numbers small: powers of large ones would cancel.
 */
export function lagrangeIntegrals(rate: number, from: number, nodes: readonly number[]): number[] {
  const moments = powerIntegrals(rate, from, nodes.length);
  return nodes.map((node, i) => {
    const others = nodes.filter((_, j) => j !== i);
    return lagrangePolynomial(node, others).reduce((sum, coefficient, k) => sum + coefficient * moments[k]!, 0);
  });
}

/** Coefficients of the polynomial that is 1 at `node` and 0 at `others`, by ascending power. */
function lagrangePolynomial(node: number, others: readonly number[]): number[] {
  let product = [1];
  for (const other of others) {
    // Multiply by (v - other) / (node - other).
    product = [0, ...product].map((lower, power) => (lower - other * (product[power] ?? 0)) / (node - other));
  }
  return product;
}

/** The integrals from `from` to 0 of e^(rate v) v^k, for k from 0 to count - 1; by parts if the rate is not 0. */
function powerIntegrals(rate: number, from: number, count: number): number[] {
  if (rate === 0) return Array.from({ length: count }, (_, k) => -(from ** (k + 1)) / (k + 1));
  const integrals = [-Math.expm1(rate * from) / rate];
  for (let k = 1; k < count; k++) {
    integrals.push(-(from ** k * Math.exp(rate * from) + k * integrals[k - 1]!) / rate);
  }
  return integrals;
}
