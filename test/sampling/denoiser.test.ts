import { expect, it } from "vitest";
import { type Denoiser, DenoiserByRows } from "../../src/sampling/denoiser.ts";
import type { Action } from "../../src/sampling/step-policy.ts";
import { floatTensor } from "../../src/tensor.ts";

/** Full at first; what it gives is how often it was run. */
class Counting implements Denoiser {
  readonly actions: Action[] = [];

  async run() {
    this.actions.push(this.actions.length === 0 ? "full" : "inner");
    return floatTensor([1], Float32Array.of(this.actions.length));
  }
}

it("starts anew where the number of rows changes, and tells of all steps", async () => {
  const denoiser = new DenoiserByRows(() => new Counting());
  const given: number[] = [];
  for (const [index, rows] of [1, 1, 2, 2, 2, 1].entries()) {
    const output = await denoiser.run({ hiddenStates: floatTensor([rows, 1]) }, { index, steps: 6, timestep: 0 });
    given.push(output.data[0]!);
  }
  expect(given).toEqual([1, 2, 1, 2, 3, 1]);
  expect(denoiser.actions).toEqual(["full", "inner", "full", "inner", "inner", "full"]);
});
