import { describe, expect, it } from "vitest";
import { verifyScheduler } from "../../src/verify/scheduler-case.ts";
import { fixture, fixtures, tensors } from "../support/golden.ts";

// Reference vectors of diffusers 0.42.1 (30 of them older, of 0.30.3, with the same numbers); model outputs are fixed, so nothing but the scheduler is tested.
describe("schedulers against diffusers", () => {
  const cases = fixtures("schedulers");

  it("has cases for every scheduler", () => expect(cases).toHaveLength(219));

  it.each(cases)("%s", async (name) => {
    const folder = fixture(`schedulers/${name}`);
    const config = (await folder.json("scheduler_config.json")) as Record<string, unknown>;
    const call = (await folder.json("call.json")) as Record<string, unknown>;
    const errors = verifyScheduler(config, call, await tensors(folder));
    expect(errors.map((error) => error.name.replace(/\[.*/, ""))).toEqual(
      expect.arrayContaining(["output.timesteps", "output.prev_sample", "trajectory"]),
    );
    for (const error of errors) expect(error.relative, error.name).toBeLessThan(1e-4);
  });
});
