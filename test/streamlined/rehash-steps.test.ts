/** Steps that are a session each: against those of a plan, which are tested against the plain network. */
import { describe, expect, it } from "vitest";
import { StagedSession } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { scheduled } from "../../src/sampling/step-policy.ts";
import { longestGroups } from "../../src/streamlined/grouping.ts";
import { bordersOf } from "../../src/streamlined/planner.ts";
import { rehashAt, rehashCuts, StreamlinedDenoiser } from "../../src/streamlined/rehash.ts";
import { bytesTwice, RehashDenoiser, rehashModels, stepsOfModels } from "../../src/streamlined/rehash-steps.ts";
import { compare } from "../../src/verify/compare.ts";
import { moved, planOf, streamlinedCase } from "../support/plans.ts";

const step = (index: number) => ({ index, steps: 6, timestep: 500 });

describe("steps that are a session each", () => {
  it.each(["unet-motion", "unet-motion-adapter", "unet-svd"])("%s: give what those of a plan do", async (name) => {
    const { compile, flow, feeds, source, locations, geometry } = await streamlinedCase(name);
    const cuts = rehashCuts(flow);
    for (const [cut, fresh, half] of [
      // Half of a batch of two, as guidance has it.
      [cuts[0]!, 1, false],
      [cuts[0]!, 1, geometry.batch === 2],
      [cuts.at(-1)!, 2, geometry.batch === 2],
    ] as const) {
      const rehash = { ...rehashAt(flow, cut, fresh), half };
      const policy = scheduled(["full", "rehash", "rehash", "full", "rehash", "full"], "rehash");
      const planned = await compile(planOf(longestGroups(flow, bordersOf(flow, rehash))), rehash);
      const expected = new StreamlinedDenoiser(planned, policy);
      const models = rehashModels(flow, rehash);
      const [full, again] = await Promise.all(
        [models.full, models.again].map((model) =>
          StagedSession.compile(nodeRuntime, model, source, locations, { threads: 1 }),
        ),
      );
      const actual = new RehashDenoiser(stepsOfModels(full!, again!, rehash), rehash.half, policy);
      for (let i = 0; i < 6; i++) {
        const given = moved(feeds, i / 10);
        const [a, b] = [await actual.run(given, step(i)), await expected.run(given, step(i))];
        expect(compare(name, a.data, b.data).relative, `${cut}${half ? ", half" : ""}, step ${i}`).toBeLessThan(3e-5);
      }
      expect(actual.actions).toEqual(expected.actions);
      await Promise.all([planned, full!, again!].map((session) => session.release()));
    }
  });

  it("hold the weights of what a rehash step runs twice, the less the later the cut", async () => {
    const { flow } = await streamlinedCase("unet-motion");
    const bytes = rehashCuts(flow).map((cut) => bytesTwice(rehashModels(flow, rehashAt(flow, cut))));
    expect(bytes).toEqual(bytes.toSorted((a, b) => b - a));
    expect(new Set(bytes).size).toBe(bytes.length);
    expect(bytes.at(-1)).toBeGreaterThan(0);
  });
});
