import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { longestGroups } from "../../src/streamlined/grouping.ts";
import { applyPlan, SCRATCH } from "../../src/streamlined/plan.ts";
import { compare } from "../../src/verify/compare.ts";
import { planOf, randomPlan, streamlinedCase } from "../support/plans.ts";
import { unets } from "../support/unets.ts";

const draw = (stream: Iterator<number>) => () => (stream.next().value as number) / 1000;

describe("plans", () => {
  it.each(unets)("%s: any plan gives what diffusers gives", async (name) => {
    const { compile, flow, geometry, feeds, expected } = await streamlinedCase(name);
    const property = fc.asyncProperty(fc.infiniteStream(fc.nat(999)), async (stream) => {
      const session = await compile(randomPlan(flow, geometry.batch as number, draw(stream)));
      // Twice: what one run leaves in memory must not be seen by the next.
      for (let run = 0; run < 2; run++) {
        const { data } = (await session.run(feeds))["sample"]!;
        expect(compare(name, data, expected.data).relative).toBeLessThan(3e-5);
      }
      await session.release();
    });
    await fc.assert(property, { numRuns: 4, seed: 11 });
  });

  it.each(["unet-motion", "unet-svd"])("%s: every number of slices, in the longest groups", async (name) => {
    const { compile, flow, feeds, expected } = await streamlinedCase(name);
    for (const slices of [1, 2, 3, 4]) {
      const plan = planOf(longestGroups(flow));
      const { groups } = applyPlan(flow, plan);
      const cut = { ...plan, groups: groups.map((g) => ({ ...g.plan, slices: Math.min(slices, g.length) })) };
      const session = await compile(cut);
      const { data } = (await session.run(feeds))["sample"]!;
      await session.release();
      expect(compare(name, data, expected.data).relative).toBeLessThan(3e-5);
    }
  });

  it.each(unets)("%s: what lives at the same time lies apart, and nothing outlives its last reader", async (name) => {
    const { flow, geometry } = await streamlinedCase(name);
    const property = fc.property(fc.infiniteStream(fc.nat(999)), (stream) => {
      const { lifetimes, arena, groups } = applyPlan(flow, randomPlan(flow, geometry.batch as number, draw(stream)));
      for (const { name: feature, first, last } of lifetimes) {
        if (feature.startsWith(SCRATCH)) continue;
        const readers = groups.flatMap(({ reads }, i) => (reads.includes(feature) ? [i] : []));
        expect(groups[first]!.writes).toContain(feature);
        expect(last, feature).toBe(Math.max(...readers));
      }
      for (const a of lifetimes) {
        const start = arena.offsets.get(a.name)!;
        expect(start + a.bytes).toBeLessThanOrEqual(arena.bytes);
        for (const b of lifetimes) {
          if (a === b || a.last < b.first || b.last < a.first) continue;
          const other = arena.offsets.get(b.name)!;
          expect(start + a.bytes <= other || other + b.bytes <= start, `${a.name} and ${b.name}`).toBe(true);
        }
      }
    });
    fc.assert(property, { numRuns: 5, seed: 3 });
  });

  it("groups of one axis follow one another", async () => {
    const { flow } = await streamlinedCase("unet-motion");
    const { groups } = applyPlan(flow, planOf(longestGroups(flow)));
    for (const [i, { axis, stages, length }] of groups.entries()) {
      expect(new Set(stages.map(({ stage }) => stage.axis)).size).toBe(1);
      const before = groups[i - 1];
      if (before) expect(`${axis} ${length}`).not.toBe(`${before.axis} ${before.length}`);
    }
  });

  it("that do not fit are refused", async () => {
    const { flow } = await streamlinedCase("unet-motion");
    const plan = planOf(longestGroups(flow));
    expect(() => applyPlan(flow, planOf([3]))).toThrow(/has \d+ stages; groups of \[3\] do not add up to them/);
    expect(() => applyPlan(flow, { ...plan, passes: 3 })).toThrow(/a batch of 2 is not 3 equal passes/);
    const tooMany = plan.groups.with(1, { ...plan.groups[1]!, slices: 99 });
    expect(() => applyPlan(flow, { ...plan, groups: tooMany })).toThrow(ArgumentError);
    expect(() => applyPlan(flow, { ...plan, groups: tooMany })).toThrow(/can be in 1 to 5 slices, not 99/);
  });
});
