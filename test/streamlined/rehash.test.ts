import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { rows } from "../../src/sampling/guidance.ts";
import { scheduled } from "../../src/sampling/step-policy.ts";
import { longestGroups } from "../../src/streamlined/grouping.ts";
import { bordersOf } from "../../src/streamlined/planner.ts";
import { defaultCut, rehashAt, rehashCuts, rehashShare, StreamlinedDenoiser } from "../../src/streamlined/rehash.ts";
import type { GroupProgress } from "../../src/streamlined/session.ts";
import { compare } from "../../src/verify/compare.ts";
import { moved, planOf, streamlinedCase } from "../support/plans.ts";

const videoUnets = ["unet-motion", "unet-motion-adapter", "unet-svd"];
const step = (index: number) => ({ index, steps: 4, timestep: 500 });

/** To whole cache lines. */
const align = (bytes: number) => 64 * Math.ceil(bytes / 64);

describe("Step Rehash", () => {
  it.each(videoUnets)("%s: with every step full it is the plain network, bit for bit", async (name) => {
    const { compile, flow, feeds } = await streamlinedCase(name);
    const rehash = rehashAt(flow);
    const session = await compile(planOf(longestGroups(flow, bordersOf(flow, rehash))), rehash);
    const kept = new StreamlinedDenoiser(session, scheduled({ every: 1 }, "rehash"));
    const plain = new StreamlinedDenoiser(session);
    for (let i = 0; i < 3; i++) {
      const given = moved(feeds, i / 10);
      expect((await kept.run(given, step(i))).data).toEqual((await plain.run(given, step(i))).data);
    }
    expect(kept.actions).toEqual(["full", "full", "full"]);
    await session.release();
  });

  it.each(videoUnets)("%s: a rehash step of unchanged inputs gives the full step", async (name) => {
    const { compile, flow, feeds, expected } = await streamlinedCase(name);
    const cuts = rehashCuts(flow);
    for (const cut of new Set([cuts[0]!, defaultCut(flow), cuts.at(-1)!])) {
      const rehash = rehashAt(flow, cut, 1);
      const groups = longestGroups(flow, bordersOf(flow, rehash));
      const session = await compile({ ...planOf(groups, 1), passes: 1 }, rehash);
      const denoiser = new StreamlinedDenoiser(session, scheduled({ every: 9 }, "rehash"));
      const full = await denoiser.run(feeds, step(0));
      expect(compare(name, full.data, expected.data).relative).toBeLessThan(3e-5);
      const again = await denoiser.run(feeds, step(1));
      expect(again.data, cut).toEqual(full.data);
      // What is worked out anew sees the new latent; what is kept stays as it was.
      const other = await denoiser.run(moved(feeds, 0.1), step(2));
      expect(compare(name, other.data, full.data).relative).toBeGreaterThan(1e-3);
      expect((await denoiser.run(feeds, step(3))).data).toEqual(full.data);
      expect(denoiser.actions).toEqual(["full", "rehash", "rehash", "rehash"]);
      await session.release();
    }
  });

  it("keeps for each run of the sampler apart, and for each guidance half", async () => {
    const { compile, flow, feeds } = await streamlinedCase("unet-motion");
    const rehash = rehashAt(flow);
    const groups = longestGroups(flow, bordersOf(flow, rehash));
    const session = await compile({ ...planOf(groups), passes: 2 }, rehash);
    const policy = scheduled({ every: 9 }, "rehash");
    const [a, b] = [new StreamlinedDenoiser(session, policy), new StreamlinedDenoiser(session, policy)];
    const first = await Promise.all([a.run(feeds, step(0)), b.run(moved(feeds, 0.2), step(0))]);
    const second = await Promise.all([a.run(feeds, step(1)), b.run(moved(feeds, 0.2), step(1))]);
    for (const i of [0, 1]) expect(second[i]!.data).toEqual(first[i]!.data);
    await session.release();
  });

  it.each([1, 2])(
    "with guidance does the half with the condition, in %i passes: it is that of both",
    async (passes) => {
      const { compile, flow, feeds } = await streamlinedCase("unet-motion");
      const rehash = { ...rehashAt(flow), half: true };
      const groups = longestGroups(flow, bordersOf(flow, rehash));
      const plan = { ...planOf(groups), passes };
      const [halved, whole] = await Promise.all([compile(plan, rehash), compile(plan, { ...rehash, half: false })]);
      const policy = scheduled({ every: 9 }, "rehash");
      const ran: GroupProgress[] = [];
      const actual = new StreamlinedDenoiser(halved, policy, { onGroup: (progress) => ran.push(progress) });
      const expected = new StreamlinedDenoiser(whole, policy);
      const first = await actual.run(feeds, step(0));
      expect(first.data).toEqual((await expected.run(feeds, step(0))).data);
      ran.length = 0;
      const given = moved(feeds, 0.1);
      const [a, b] = [await actual.run(given, step(1)), await expected.run(given, step(1))];
      const [below, above] = [0, 1].map((i) => rows(a, i, i + 1).data) as [Float32Array, Float32Array];
      expect(compare("with the condition", above, rows(b, 1, 2).data).relative).toBeLessThan(1e-5);
      // Without it: less by what the condition made of the full step.
      const difference = rows(first, 1, 2).data.map((value, i) => value - rows(first, 0, 1).data[i]!);
      const less = above.map((value, i) => value - difference[i]!);
      expect(compare("without", below, less).relative).toBeLessThan(1e-6);
      expect(ran.at(-1)).toMatchObject({ groupIndex: ran.length - 1, groups: ran.length });
      expect(ran.length).toBe(halved.layout.groups.filter(({ again }) => again).length);
      await Promise.all([halved, whole].map((session) => session.release()));
    },
  );

  it("has allocated what was accounted for, and gives it back", async () => {
    const { compile, flow, feeds } = await streamlinedCase("unet-motion");
    const rehash = rehashAt(flow);
    const groups = longestGroups(flow, bordersOf(flow, rehash));
    const session = await compile({ ...planOf(groups, 1), passes: 2 }, rehash);
    expect(session.allocated).toBe(0);
    const cache = session.allocateCache();
    await session.run(feeds, { cache });
    await session.run(feeds, { cache, again: true });
    const { arena, lifetimes, cachedBytes } = session.layout;
    expect(session.allocated).toBe(arena.bytes);
    expect(arena.bytes).toBe(Math.max(...lifetimes.map(({ name, bytes }) => arena.offsets.get(name)! + align(bytes))));
    const bytes = cache.flatMap((pass) => [...pass.values()].map(({ byteLength }) => byteLength));
    expect(bytes.reduce((a, b) => a + b, 0)).toBe(cachedBytes);
    await session.release();
    expect(session.allocated).toBe(0);
  });

  it("cuts after the layers of the way up, with less to do the later", async () => {
    const { flow } = await streamlinedCase("unet-motion");
    const cuts = rehashCuts(flow);
    expect(cuts.every((cut) => /^up_blocks\.\d+\.motion_modules\.\d+$/.test(cut))).toBe(true);
    const shares = cuts.map((cut) => rehashShare(flow, rehashAt(flow, cut)));
    expect(shares).toEqual(shares.toSorted((x, y) => y - x));
    expect(shares.every((share) => share > 0 && share < 1)).toBe(true);
    expect(cuts).toContain(defaultCut(flow));
    const last = rehashAt(flow, cuts.at(-1)!);
    expect(rehashShare(flow, { ...last, half: true })).toBeCloseTo(shares.at(-1)! / 2, 12);
    // Nothing before the cut runs but what the end needs: the embedding of the timestep and the first convolution.
    const { stages } = rehashAt(flow, cuts.at(-1)!);
    const before = [...stages].map((i) => flow.stages[i]!.stage.name).filter((name) => !name.startsWith("up_blocks."));
    expect(before.sort()).toEqual(["conv_in", "conv_out", "time_embedding"]);
  });

  it("works out as many features of the way down anew as is asked for", async () => {
    const { flow } = await streamlinedCase("unet-motion");
    const cut = rehashCuts(flow).at(-3)!;
    const counts = [0, 1, 2, 3].map((fresh) => rehashAt(flow, cut, fresh).stages.size);
    expect(counts).toEqual(counts.toSorted((x, y) => x - y));
    expect(counts[3]).toBeGreaterThan(counts[1]!);
    expect(() => rehashAt(flow, cut, 99)).toThrow(ArgumentError);
    expect(() => rehashAt(flow, "mid_block")).toThrow(/cannot be cut after "mid_block"; it can after up_blocks/);
  });
});
