import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, BudgetError } from "../../src/errors.ts";
import { add, mul, reshape, silu, transpose } from "../../src/graph/operators.ts";
import { input } from "../../src/graph/value.ts";
import { presets } from "../../src/init/presets.ts";
import type { Stage, StagedModel } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { type Lifetime, layOut, mostAlive } from "../../src/streamlined/arena.ts";
import { describeBytes, parseBytes } from "../../src/streamlined/bytes.ts";
import { activationBytes, groupCost } from "../../src/streamlined/cost.ts";
import { axisLength, flowOf, groupsOf } from "../../src/streamlined/grouping.ts";
import type { Plan } from "../../src/streamlined/plan.ts";
import { OVERHEAD, planFor, predict } from "../../src/streamlined/planner.ts";
import { rehashAt } from "../../src/streamlined/rehash.ts";
import { compare } from "../../src/verify/compare.ts";
import { streamlinedCase } from "../support/plans.ts";

/** Frames, positions and channels of a model of a few stages, with a skip connection around all of them. */
function smallModel(axes: readonly Stage["axis"][]): StagedModel {
  // Features of 100 MB, of which the megabyte that budgets are rounded to is nothing; nothing is run.
  const channel = 2 ** 20;
  const layout = { batch: 2, frame: 3, position: 4, channel };
  const names = ["x", ...axes.map((_, i) => `f${i}`)];
  const stages = axes.map((axis, i): Stage => {
    const last = i === axes.length - 1;
    const reads = last && i > 0 ? [names[i]!, names[1]!] : [names[i]!];
    const layouts = Object.fromEntries([...reads, names[i + 1]!].map((name) => [name, layout]));
    return {
      name: `stage ${i}`,
      role: "block",
      axis,
      reads,
      writes: [names[i + 1]!],
      layouts,
      build: (features, weights) => {
        const x = features[names[i]!]!;
        const scaled = silu(mul(x, weights.at(i).tensor("weight", [channel])));
        return { [names[i + 1]!]: reads[1] ? add(scaled, features[reads[1]]!) : scaled };
      },
    };
  });
  const inputs = { x: input("x", Object.values(layout)) };
  return { className: "Small", inputs, outputs: [names.at(-1)!], stages };
}

/** Every way to write a number as a sum. */
const sums = (n: number): number[][] =>
  n === 0 ? [[]] : Array.from({ length: n }, (_, i) => sums(n - i - 1).map((rest) => [i + 1, ...rest])).flat();

describe("the memory planner", () => {
  it.each<[string, Stage["axis"][]]>([
    ["of one axis", ["frame", "frame", "frame"]],
    ["by turns", ["frame", "position", "frame", "position"]],
    ["with one that needs everything", ["frame", "whole", "position"]],
  ])("%s: no plan at all takes less than the smallest budget that it names", (_, axes) => {
    const flow = flowOf(smallModel(axes));
    let smallest = 0;
    try {
      planFor(flow, { memory: 1, overhead: 0 });
    } catch (error) {
      smallest = Math.min(...plansWithin(flow, axes).map((plan) => predict(flow, plan, null, 0).peak));
      expect(error).toBeInstanceOf(BudgetError);
      const named = planFor(flow, { memory: (error as BudgetError).smallest, overhead: 0 }).prediction.peak;
      // Groups are as long as can be or of one stage; among all plans there may be one a little smaller.
      expect(named).toBeGreaterThanOrEqual(smallest);
      expect(named).toBeLessThanOrEqual(1.15 * smallest);
    }
    expect(smallest).toBeGreaterThan(0);
  });

  /** All groupings, slices and passes. */
  function plansWithin(flow: ReturnType<typeof flowOf>, axes: readonly Stage["axis"][]): Plan[] {
    return sums(axes.length).flatMap((counts) => {
      let at = 0;
      const choices = counts.map((stages) => {
        const inside = flow.stages.slice(at, at + stages);
        at += stages;
        const one = new Set(inside.map(({ stage }) => stage.axis)).size === 1;
        const length = one ? axisLength(flow, inside[0]!) : 1;
        return Array.from({ length }, (_, i) => i + 1).flatMap((slices) =>
          [true, false].map((together) => ({ stages, slices, together })),
        );
      });
      const all = choices.reduce<Plan["groups"][]>(
        (lists, options) => lists.flatMap((list) => options.map((option) => [...list, option])),
        [[]],
      );
      return all.flatMap((groups) => [1, 2].map((passes): Plan => ({ groups, passes, stream: true })));
    });
  }

  it.each(["unet-motion", "unet-svd"])("%s: what it names works, a little less does not", async (name) => {
    const { flow, compile, feeds, expected } = await streamlinedCase(name);
    const smallest = (() => {
      try {
        planFor(flow, { memory: OVERHEAD });
      } catch (error) {
        expect((error as Error).message).toContain("the smallest budget for these sizes is");
        return (error as BudgetError).smallest;
      }
      throw new Error("a budget without room for anything was taken");
    })();
    const { plan, prediction } = planFor(flow, { memory: smallest });
    expect(prediction.peak).toBeLessThanOrEqual(smallest);
    expect(() => planFor(flow, { memory: smallest - 1e6 })).toThrow(BudgetError);
    const session = await compile(plan);
    const { sample } = await session.run(feeds);
    await session.release();
    expect(compare(name, sample!.data, expected.data).relative).toBeLessThan(3e-5);
  });

  it.each([1e12, 2e9])(
    "within %d bytes cuts groups until a slice takes 20 MB or is one frame, and no further",
    (memory) => {
      const raw = { ...presets.get("animatediff")! };
      const architecture = architectureOf(raw);
      const size = { batch: 2, frames: 16, height: 16, width: 24, tokens: 77 };
      const flow = flowOf(architecture.model(architecture.parseConfig(raw), size));
      const { plan } = planFor(flow, { memory });
      const groups = groupsOf(
        flow,
        plan.groups.map(({ stages }) => stages),
      );
      let cut = 0;
      for (const [i, group] of groups.entries()) {
        const { slices, together } = plan.groups[i]!;
        const bytes = (rows: number, count: number) => {
          const { fixed, each } = groupCost(group, flow.sizes, rows);
          return fixed + each * Math.ceil(group.length / count);
        };
        if (together) {
          expect(slices).toBe(1);
          expect(bytes(2, 1)).toBeLessThanOrEqual(20e6);
          continue;
        }
        cut++;
        expect(bytes(2, 1)).toBeGreaterThan(20e6);
        const most = group.axis === "position" ? Math.min(64, group.length) : group.length;
        if (slices < most) expect(bytes(1, slices)).toBeLessThanOrEqual(20e6);
        if (slices > 1) expect(bytes(1, slices - 1)).toBeGreaterThan(20e6);
      }
      expect(cut).toBeGreaterThan(10);
    },
  );

  it.each([false, true])("keeps to every budget, with what stays for rehash steps too (of half: %s)", async (half) => {
    const { flow } = await streamlinedCase("unet-motion");
    const rehash = rehashAt(flow, undefined, 1, half);
    for (const extra of [0.4e6, 0.6e6, 1e6, 1.5e6, 3e6, 1e9]) {
      const memory = OVERHEAD + extra;
      try {
        const { prediction, layout, plan } = planFor(flow, { memory, rehash });
        expect(prediction.peak).toBeLessThanOrEqual(memory);
        expect(prediction).toEqual(predict(flow, plan, rehash));
        expect(layout.cachedBytes).toBeGreaterThan(0);
        // Half of the rows can only be left out of what has them one by one, or by passes.
        const again = plan.groups.filter((_, i) => layout.groups[i]!.again);
        if (half && plan.passes === 1) expect(again.some(({ together }) => together)).toBe(false);
      } catch (error) {
        expect(error).toBeInstanceOf(BudgetError);
        expect((error as BudgetError).smallest).toBeGreaterThan(memory);
      }
    }
  });
});

describe("places in memory", () => {
  const lifetimes = fc.array(
    fc.record({ bytes: fc.integer({ min: 1, max: 9 }), first: fc.nat(5), length: fc.nat(4) }),
    { minLength: 1, maxLength: 6 },
  );

  it("are never less than what is alive, and seldom much more than the best order of placing gives", () => {
    const property = fc.property(lifetimes, (list) => {
      const lives = list.map(({ bytes, first, length }, i): Lifetime => {
        return { name: String(i), bytes: 64 * bytes, first, last: first + length };
      });
      const { bytes } = layOut(lives);
      expect(bytes).toBeGreaterThanOrEqual(mostAlive(lives));
      expect(bytes).toBeLessThanOrEqual(1.5 * bestOrder(lives));
    });
    fc.assert(property, { numRuns: 60, seed: 2 });
  });

  /** The least over all orders in which they can be placed one after the other, each as low as it goes. */
  function bestOrder(lives: readonly Lifetime[]): number {
    const place = (placed: readonly (Lifetime & { at: number })[], rest: readonly Lifetime[]): number => {
      if (rest.length === 0) return Math.max(...placed.map(({ at, bytes }) => at + bytes));
      return Math.min(
        ...rest.map((life, i) => {
          const beside = placed.filter((other) => other.first <= life.last && other.last >= life.first);
          const spots = [0, ...beside.map(({ at, bytes }) => at + bytes)];
          const free = spots.filter((at) => beside.every((o) => at + life.bytes <= o.at || o.at + o.bytes <= at));
          return place([...placed, { ...life, at: Math.min(...free) }], rest.toSpliced(i, 1));
        }),
      );
    };
    return place([], lives);
  }
});

describe("values that are alive in a graph", () => {
  const x = input("x", [4, 8]);
  const one = 4 * 8 * 4;

  it("outputs and inputs are the caller's", () => {
    expect(activationBytes({ y: silu(x) })).toBe(0);
  });

  it("a chain has two at a time, and sums are written over what they add to", () => {
    const chain = silu(silu(silu(x)));
    expect(activationBytes({ y: silu(chain) })).toBe(2 * one);
    const long = add(add(add(silu(x), x), x), x);
    expect(activationBytes({ y: silu(long) })).toBe(one);
  });

  it("what is read again later stays, whatever shape it is seen in", () => {
    const early = silu(x);
    const seen = reshape(early, [8, 4]);
    const later = silu(silu(silu(seen)));
    // early (seen as another shape) and two of the chain, then the sum over the chain's last.
    expect(activationBytes({ y: silu(add(later, seen)) })).toBe(3 * one);
    expect(activationBytes({ y: transpose(early, [1, 0]) })).toBe(one);
  });
});

describe("amounts of memory", () => {
  it.each<[string, number]>([
    ["6GB", 6e9],
    ["1.5 GiB", 1.5 * 2 ** 30],
    ["800mb", 8e8],
    ["12345", 12345],
  ])("%s", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it("are printed so that what is printed is enough", () => {
    expect(describeBytes(2_341_000_000)).toBe("2.35 GB");
    expect(describeBytes(884_100_000)).toBe("885 MB");
    const property = fc.property(fc.integer({ min: 1, max: 2 ** 50 }), (bytes) => {
      expect(parseBytes(describeBytes(bytes))).toBeGreaterThanOrEqual(bytes);
    });
    fc.assert(property, { numRuns: 200, seed: 1 });
  });

  it.each(["", "GB", "6 PB", "-1GB", "0"])("refuses %j", (text) => {
    expect(() => parseBytes(text)).toThrow(ArgumentError);
  });
});
