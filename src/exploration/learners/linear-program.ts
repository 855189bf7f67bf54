/** Linear programs over occupancy measures, solved by HiGHS (WebAssembly, so it runs in Node and in browsers). */
import { NumericError, ToolError } from "../../errors.ts";
import type { Sizes } from "../mdp/mdp.ts";

type Highs = Awaited<ReturnType<typeof import("highs")["default"]>>;

/** Maximise costs x over x >= 0 under rows lower <= values x[indices] <= upper. */
export class LinearProgram {
  readonly costs: number[] = [];
  readonly #starts: number[] = [0];
  readonly #indices: number[] = [];
  readonly #values: number[] = [];
  readonly #lower: number[] = [];
  readonly #upper: number[] = [];

  /** Adds a variable, and returns its index. */
  variable(cost: number): number {
    return this.costs.push(cost) - 1;
  }

  row(entries: Iterable<readonly [variable: number, value: number]>, lower: number, upper: number): void {
    for (const [variable, value] of entries) {
      if (value === 0) continue;
      this.#indices.push(variable);
      this.#values.push(value);
    }
    this.#starts.push(this.#indices.length);
    this.#lower.push(lower);
    this.#upper.push(upper);
  }

  /** The best x, or undefined if no x satisfies all rows. */
  solve(solver: Highs): Float64Array | undefined {
    const [numCols, numRows] = [this.costs.length, this.#lower.length];
    const { optimal, infeasible } = solver.constants.modelStatus;
    return solver.withModel((model): Float64Array | undefined => {
      model.options.set({ output_flag: false });
      model.passModel({
        numCols,
        numRows,
        sense: solver.constants.objectiveSense.maximize,
        colCost: this.costs,
        colLower: new Float64Array(numCols),
        colUpper: new Float64Array(numCols).fill(solver.infinity),
        rowLower: this.#lower,
        rowUpper: this.#upper,
        matrix: { format: "csr", numRows, numCols, starts: this.#starts, indices: this.#indices, values: this.#values },
      });
      model.run();
      const status = model.getModelStatus();
      if (status === infeasible) return undefined;
      if (status !== optimal) throw new NumericError(`The linear program ended with status ${status} of HiGHS.`);
      return Float64Array.from(model.getSolution().colValue);
    });
  }
}

export type { Highs };

let loaded: Promise<Highs> | undefined;

/** HiGHS, loaded once. Throws ToolError if the package `highs` is not installed. Nothing else needs it. */
export function loadSolver(): Promise<Highs> {
  loaded ??= import("highs").then(
    ({ default: load }) => load(),
    (cause) => {
      loaded = undefined;
      throw new ToolError("Algorithms that solve linear programs need the package highs: npm install highs", { cause });
    },
  );
  return loaded;
}

/** pi_h(a|s) = q_h(s,a) / sum over a; in states with zero occupancy the policy is `elsewhere`. */
export function policyOfOccupancy(occupancy: Float64Array, elsewhere: Float64Array, { actions }: Sizes): Float64Array {
  const policy = elsewhere.slice();
  for (let from = 0; from < policy.length; from += actions) {
    let mass = 0;
    for (let a = from; a < from + actions; a++) mass += Math.max(0, occupancy[a]!);
    if (!(mass >= 1e-12)) continue;
    for (let a = from; a < from + actions; a++) policy[a] = Math.max(0, occupancy[a]!) / mass;
  }
  return policy;
}
