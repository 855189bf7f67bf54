/**
 * Networks through which image and text both run: what tells stages apart by their roles works on them as on all others. The
 * two-row network's blocks have names of their own and come in two kinds; its numbers come from
 * test/support/two-row-reference.ts. Stable Diffusion 3's are those of diffusers: test/fixtures/models-0.42.
 */
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { openDenoiser } from "../../src/acceleration/acceleration.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { ConfigError } from "../../src/errors.ts";
import { networksOf } from "../../src/models/registry.ts";
import { blocksOf, splitModel } from "../../src/models/split-model.ts";
import type { StagedSession } from "../../src/models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type Feeds, runParts } from "../../src/sampling/denoiser.ts";
import { flowOf } from "../../src/streamlined/grouping.ts";
import { planFor } from "../../src/streamlined/planner.ts";
import { StreamlinedSession } from "../../src/streamlined/session.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { seededRandom } from "../../training/random.ts";
import { randomPlan } from "../support/plans.ts";
import { compileModel, compileParts } from "../support/toy-model.ts";
import { jointCases, twoRowCase, withTwoRows } from "../support/two-row-case.ts";
import type { TwoRowConfig } from "../support/two-row-network.ts";
import { twoRowReference } from "../support/two-row-reference.ts";

type Case = Awaited<ReturnType<(typeof jointCases)[string]>>;
let net: Case;
let whole: StagedSession;

const sampleOf = async (session: StagedSession, feeds: Feeds) => (await session.run(feeds))["sample"] as FloatTensor;

function expectClose(actual: Tensor, expected: Tensor, what = "sample", limit = 1e-5) {
  expect(compare(what, actual.data, expected.data).relative, what).toBeLessThan(limit);
}

const combined = (f: (...values: number[]) => number, ...tensors: Tensor[]): FloatTensor =>
  floatTensor(
    tensors[0]!.shape,
    Float32Array.from({ length: tensors[0]!.data.length }, (_, i) => f(...tensors.map(({ data }) => Number(data[i])))),
  );

describe("verify", () => {
  beforeAll(async () => {
    net = await twoRowCase();
  });

  it("knows the network by its line in a registry, which others do not see", async () => {
    const { noisyImage, ...others } = net.trajectory(1)[0]!.feeds;
    const inputs = new Map<string, Tensor>(Object.entries({ noisy_image: noisyImage!, ...others }));
    const get = (tensors: ReadonlyMap<string, Tensor>) => (name: string) => tensors.get(name)!;
    const { sample, images, words } = twoRowReference(net.config as TwoRowConfig, get(net.tensors), get(inputs));
    const asTensor = (shape: number[], values: unknown[]) =>
      floatTensor(shape, Float32Array.from(values.flat(3) as number[]));
    const io = new Map<string, Tensor>([...inputs].map(([name, tensor]) => [`input.${name}`, tensor]));
    io.set("output.sample", asTensor([2, 4, 3, 4], sample));
    const statesAfter = (runs: readonly (readonly unknown[])[], block: number) => runs.map((run) => run[block]);
    for (const block of [0, 1, 2, 3]) io.set(`block.${block}`, asTensor([2, 12, 8], statesAfter(images, block)));
    await writeSafetensors(join(net.folder.path, "io.safetensors"), io);
    const options = { blocks: true, registry: withTwoRows, threads: 1 };
    const { pass, outputs, blocks } = await verifyFolder(net.folder, nodeRuntime, options);
    expect(pass).toBe(true);
    expect(outputs.map(({ name }) => name)).toEqual(["output.sample"]);
    expect(blocks!.map(({ name }) => name)).toEqual([0, 1, 2, 3].map((block) => `block.${block}`));
    for (const { relative, name } of [...outputs, ...blocks!]) expect(relative, name).toBeLessThan(1e-5);
    // Every state of the text too: it is what the blocks after it see.
    const heard = await statesAfterBlocks(net.trajectory(1)[0]!.feeds);
    for (const block of [0, 1, 2]) {
      expectClose(heard[block]!["wordTokens"]!, asTensor([2, 3, 8], statesAfter(words, block)), `words after ${block}`);
    }
    expect(() => networksOf(net.raw)).toThrow(ConfigError);
    await expect(verifyFolder(net.folder, nodeRuntime)).rejects.toThrow("TwoRowNetwork is not supported");
  });
});

async function statesAfterBlocks(feeds: Feeds): Promise<Feeds[]> {
  const { first, end } = blocksOf(net.model());
  const cuts = Array.from({ length: end - first + 1 }, (_, i) => first + i);
  const parts = await compileParts(net.model(), net.weights, cuts);
  const states: Feeds[] = [];
  let features = await runParts(parts.slice(0, 1), feeds);
  for (const part of parts.slice(1, -1)) {
    features = await runParts([part], features);
    states.push(features);
  }
  return states;
}

/** Names of the blocks, and of what they are told beside what runs through them. */
const networks = {
  TwoRowNetwork: { blocks: ["pair.0", "pair.1", "line.0", "line.1"], told: "moment" },
  SD3Transformer2DModel: { blocks: [0, 1, 2, 3].map((i) => `transformer_blocks.${i}`), told: "temb" },
};

describe.each(Object.keys(networks) as (keyof typeof networks)[])("%s", (className) => {
  const known = networks[className];
  beforeAll(async () => {
    net = await jointCases[className]!();
    whole = await compileModel(net.model(), net.weights);
  });

  describe("in parts", () => {
    it("has its blocks counted through both rows", () => {
      const { first, end, streams } = blocksOf(net.model());
      const names = net.model().stages.map(({ name }) => name);
      expect(names.slice(first, end)).toEqual(known.blocks);
      expect(streams).toEqual(net.names.streams);
    });

    it("is the whole network cut at any stages", async () => {
      const { feeds } = net.trajectory(1)[0]!;
      const expected = await sampleOf(whole, feeds);
      const every = net
        .model()
        .stages.slice(1)
        .map((_, i) => i + 1);
      const check = async (cuts: readonly number[]) => {
        const parts = await compileParts(net.model(), net.weights, cuts);
        const { sample } = await runParts(parts, feeds);
        expectClose(sample!, expected, `cut at ${cuts}`);
        await Promise.all(parts.map((part) => part.release()));
      };
      await check(every);
      await fc.assert(fc.asyncProperty(fc.subarray(every, { minLength: 1 }), check), { numRuns: 8, seed: 1 });
    });

    it("gives at every cut all that runs through the blocks, whoever reads it", () => {
      const { first, end } = blocksOf(net.model());
      const parts = splitModel(net.model(), [first, first + 1, first + 3, end]);
      const { image, text } = net.names;
      expect(parts.map(({ outputs }) => [...outputs].sort())).toEqual([
        [image, text, known.told].sort(),
        [image, text].sort(),
        [image, text].sort(),
        [image],
        ["sample"],
      ]);
    });
  });

  describe("caches", () => {
    const open = (accelerate: Parameters<typeof openDenoiser>[2]) =>
      openDenoiser(net.component() as Parameters<typeof openDenoiser>[0], net.geometry, accelerate, null);

    it.each([
      { method: "none" },
      { method: "cache", schedule: { every: 1 } },
      { method: "first-block", threshold: 0 },
      { method: "easycache", threshold: 0 },
      { method: "taylorseer", schedule: { every: 1 } },
    ] as const)("are the network itself where every step is full: %j", async (accelerate) => {
      const denoiser = await open(accelerate);
      for (const { feeds, step } of net.trajectory(4)) {
        expectClose(await denoiser.run(feeds, step), await sampleOf(whole, feeds), `step ${step.index}`);
      }
      expect(denoiser.actions).toEqual(["full", "full", "full", "full"]);
    });

    /** The network in parts by hand: what enters the blocks, what leaves the first and the last, and the output layer. */
    async function byHand() {
      const { first, end } = blocksOf(net.model());
      const [enter, head, others, leave] = await compileParts(net.model(), net.weights, [first, first + 1, end]);
      return {
        entered: (feeds: Feeds) => runParts([enter!], feeds),
        head: (entered: Feeds) => runParts([head!], entered),
        tail: (features: Feeds) => runParts([others!], features),
        output: async (features: Feeds) => (await leave!.run(features))["sample"]!,
      };
    }

    it("first-block adds to the first block's image what the others added at the last full step", async () => {
      const hand = await byHand();
      const denoiser = await open({ method: "first-block", threshold: 1e9 });
      let rest: FloatTensor | null = null;
      for (const { feeds, step } of net.trajectory(3)) {
        const entered = await hand.entered(feeds);
        const features = await hand.head(entered);
        const image = features[net.names.image]!;
        rest ??= combined((after, before) => after - before, (await hand.tail(features))[net.names.image]!, image);
        const guessed = combined((x, added) => x + added, image, rest);
        expectClose(await denoiser.run(feeds, step), await hand.output({ ...features, [net.names.image]: guessed }));
      }
      expect(denoiser.actions).toEqual(["full", "inner", "inner"]);
    });

    it("taylorseer of order 1 forecasts what all blocks add to the image", async () => {
      const hand = await byHand();
      const denoiser = await open({ method: "taylorseer", order: 1, schedule: ["full", "full", "inner", "inner"] });
      const added: FloatTensor[] = [];
      for (const { feeds, step } of net.trajectory(4)) {
        const entered = await hand.entered(feeds);
        const image = entered[net.names.image]!;
        if (step.index < 2) {
          const after = (await hand.tail(await hand.head(entered)))[net.names.image]!;
          added.push(combined((x, from) => x - from, after, image));
        }
        const distance = Math.max(0, step.index - 1);
        const [then, now] = [added.at(-2) ?? added[0]!, added.at(-1)!];
        const guessed = combined((x, a, b) => x + b + distance * (b - a), image, then, now);
        expectClose(await denoiser.run(feeds, step), await hand.output({ ...entered, [net.names.image]: guessed }));
      }
      expect(denoiser.actions).toEqual(["full", "full", "inner", "inner"]);
    });

    it("easycache moves the output's first channels with the latent", async () => {
      const denoiser = await open({ method: "easycache", threshold: 1e9 });
      const steps = net.trajectory(5);
      const outputs: FloatTensor[] = [];
      for (const { feeds, step } of steps) outputs.push(await denoiser.run(feeds, step));
      expect(denoiser.actions).toEqual(["full", "full", "inner", "inner", "full"]);
      const [from, to] = [1, 3].map((i) => steps[i]!.feeds[net.names.latent] as FloatTensor);
      // Of the output's channels the first are the latent's.
      const [whole, own] = [outputs[3]!, to!].map(({ data }) => data.length / 2) as [number, number];
      for (const [i, value] of outputs[3]!.data.entries()) {
        const [row, within] = [Math.floor(i / whole), i % whole];
        const moved = within < own ? to!.data[own * row + within]! - from!.data[own * row + within]! : 0;
        expect(value).toBeCloseTo(outputs[1]!.data[i]! + moved, 5);
      }
    });

    it.each([
      [1, 1],
      [2, 2],
      [1, 3],
      [3, 1],
      [4, 4],
    ])("plain caching keeps image and text after block %i for what comes after %i", async (feedBlock, resumeBlock) => {
      const schedule = ["full", "inner", "inner", "full", "inner"] as const;
      const { first } = blocksOf(net.model());
      const head = await compileModel(splitModel(net.model(), [first + feedBlock])[0]!, net.weights);
      const [enter, tail] = await compileParts(net.model(), net.weights, [first + resumeBlock]);
      const denoiser = await open({ method: "cache", feedBlock, resumeBlock, schedule });
      let kept: Feeds = {};
      for (const { feeds, step } of net.trajectory(schedule.length)) {
        const actual = await denoiser.run(feeds, step);
        if (schedule[step.index] === "full") {
          const { [net.names.image]: image, [net.names.text]: text } = await head.run(feeds);
          // The last block writes no text.
          kept = { [net.names.image]: image!, ...(text && { [net.names.text]: text }) };
          expectClose(actual, await sampleOf(whole, feeds));
          continue;
        }
        const features = await runParts([enter!], feeds);
        expectClose(actual, (await tail!.run({ ...features, ...kept }))["sample"]!, `step ${step.index}`);
      }
      expect(denoiser.actions).toEqual(schedule);
    });
  });

  describe("plans", () => {
    it("of any groups, slices and passes give what one session gives, and so does the one for the smallest budget", async () => {
      const model = net.model({ batch: 2 });
      const flow = flowOf(model);
      const { feeds } = net.trajectory(1)[0]!;
      const expected = await sampleOf(whole, feeds);
      const run = async (plan: Parameters<typeof StreamlinedSession.compile>[4]) => {
        const source = checkpointWeights(net.weights, "two rows");
        const locations = weightLocations(net.weights);
        const session = await StreamlinedSession.compile(nodeRuntime, model, source, locations, plan, { threads: 1 });
        expectClose((await session.run(feeds))["sample"]!, expected, JSON.stringify(plan));
        await session.release();
      };
      const random = seededRandom(5);
      for (let i = 0; i < 8; i++) await run(randomPlan(flow, 2, random));
      const least = smallestBudget((memory) => planFor(flow, { memory }));
      const { plan, prediction } = planFor(flow, { memory: least });
      expect(prediction.peak).toBeLessThanOrEqual(least);
      await run(plan);
    });
  });
});

/** As the error of a budget of one byte says it. */
function smallestBudget(plan: (memory: number) => unknown): number {
  try {
    plan(1);
  } catch (error) {
    return (error as { smallest: number }).smallest;
  }
  throw new Error("a byte was enough");
}
