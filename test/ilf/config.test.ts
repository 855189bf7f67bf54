/** ilf/config.json, where it cuts a backbone, and which backbone it is for. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { openWeights, type WeightEntry, WeightFiles } from "../../src/checkpoints/weights.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import { fingerprint } from "../../src/ilf/checkpoint.ts";
import {
  type FeedbackConfig,
  type FeedbackModule,
  feedbackCuts,
  moduleOf,
  parseFeedbackConfig,
  rawFeedbackConfig,
} from "../../src/ilf/config.ts";
import { copiedWeight, feedbackModel } from "../../src/ilf/feedback-module.ts";
import type { StagedModel } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { splitModel } from "../../src/models/split-model.ts";
import type { Action } from "../../src/sampling/step-policy.ts";
import { moduleWith } from "../support/feedback.ts";
import { temporaryFolder } from "../support/models.ts";
import { type TinyOptions, tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { toyModel } from "../support/toy-model.ts";

describe("ilf/config.json", () => {
  it("comes back as it was written", () => {
    const whole = (least: number) => fc.integer({ min: least, max: 99 });
    const actions = fc.array(fc.constantFrom<Action>("full", "inner"), { maxLength: 30 });
    const schedule = fc.oneof(
      fc.record({ every: whole(1), warmUp: whole(1), final: whole(0) }),
      actions.map((rest): Action[] => ["full", ...rest]),
    );
    const modules = fc
      .record({ embeddingChange: fc.boolean(), trend: fc.boolean(), mixing: fc.boolean(), ownBlocks: fc.boolean() })
      .map(moduleOf);
    const config: fc.Arbitrary<FeedbackConfig> = fc.record({
      ...{ feedBlock: whole(1), resumeBlock: whole(1), module: modules, schedule },
      backbone: fc.stringMatching(/^[0-9a-f]{32}$/),
    });
    fc.assert(
      fc.property(config, (given) => {
        const stored = JSON.parse(JSON.stringify(rawFeedbackConfig(given)));
        expect(parseFeedbackConfig(stored)).toEqual(given);
      }),
    );
  });

  it.each<[keys: Record<string, boolean>, FeedbackModule]>([
    // A file that says nothing has the change of the embedding, which is older than the key.
    [{}, { kind: "extended", reads: ["embeddingChange"], combine: "sum", blocksAfter: "backbone" }],
    [{ embedding_change: false }, { kind: "paper" }],
    [
      { trend: true, mixing: true, own_blocks: true },
      { kind: "extended", reads: ["embeddingChange", "trend"], combine: "mix", blocksAfter: "own" },
    ],
    [
      { embedding_change: false, own_blocks: true },
      { kind: "extended", reads: [], combine: "sum", blocksAfter: "own" },
    ],
  ])("with the keys %j is a module of kind %j", (keys, module) => {
    expect(parseFeedbackConfig({ feed_block: 1, resume_block: 1, ...keys }).module).toEqual(module);
  });

  it.each<[Record<string, unknown>, string]>([
    [{ feed_block: undefined }, 'ILFFeedback: config has no "feed_block"'],
    [{ feed_block: 0 }, '"feed_block" is 0'],
    [{ resume_block: 1.5 }, '"resume_block" is 1.5'],
    [{ trend: "yes" }, '"trend" is "yes"'],
    [{ schedule: "inner,full" }, 'ILFFeedback: config "schedule": A schedule starts with a full step, not "inner"'],
    [{ schedule: "often" }, '"often" is not a schedule'],
  ])("is refused with %j", (wrong, message) => {
    const raw = { feed_block: 1, resume_block: 1, schedule: "2", backbone: "", ...wrong };
    expect(() => parseFeedbackConfig(raw)).toThrow(ConfigError);
    expect(() => parseFeedbackConfig(raw)).toThrow(message);
  });
});

describe("a backbone of five blocks", () => {
  const model = toyModel(5);
  const numbers = [1, 2, 3, 4, 5];

  it.each(numbers.flatMap((f) => numbers.map((r) => [f, r] as const)))(
    "fed from block %i into what comes after %i is cut there",
    (feedBlock, resumeBlock) => {
      const { cuts, feed, resume, after } = feedbackCuts(model, { feedBlock, resumeBlock, module: moduleWith() });
      const parts = splitModel(model, cuts).map(({ stages }) => stages.map(({ name }) => name));
      const block = (i: number) => `transformer_blocks.${i}`;
      expect(parts[0]).toEqual(["pos_embed"]);
      expect(parts.slice(1, feed + 1).flat()).toEqual(numbers.slice(0, feedBlock).map((i) => block(i - 1)));
      const left = numbers.slice(resumeBlock).map((i) => block(i - 1));
      expect(parts.slice(resume).flat()).toEqual([...left, "proj_out"]);
      expect(after).toBe(resume);
      const copied = (name: string, ownBlocks = false) =>
        copiedWeight(model, { feedBlock, resumeBlock, module: moduleWith({ ownBlocks }) }, name);
      expect(copied("block.attn1.weight")).toBe(`${block(feedBlock - 1)}.attn1.weight`);
      expect(copied("own_blocks.0.weight")).toBeNull();

      const own = feedbackCuts(model, { feedBlock, resumeBlock, module: moduleWith({ ownBlocks: true }) });
      const ownParts = splitModel(model, own.cuts).map(({ stages }) => stages.map(({ name }) => name));
      expect(ownParts.slice(1, own.feed + 1).flat()).toEqual(parts.slice(1, feed + 1).flat());
      expect(ownParts.slice(own.resume).flat()).toEqual(parts.slice(resume).flat());
      expect(ownParts.slice(own.after).flat()).toEqual(["proj_out"]);
      const copies = numbers.map((_, i) => copied(`own_blocks.${i}.weight`, true));
      expect(copies.filter((name) => name !== null)).toEqual(left.map((name) => `${name}.weight`));
      expect(["scale.bias", "mix.weight"].map((name) => copied(name, true))).toEqual([null, null]);
    },
  );

  it.each([
    ["feedBlock", 0],
    ["feedBlock", 6],
    ["resumeBlock", 6],
    ["resumeBlock", -1],
    ["resumeBlock", 2.5],
    ["feedBlock", Number.NaN],
  ])("has no %s %d", (name, block) => {
    const config: FeedbackConfig = {
      ...{ feedBlock: 1, resumeBlock: 1, module: moduleWith({ embeddingChange: true }) },
      ...{ schedule: { every: 2 }, backbone: "" },
      [name]: block,
    };
    for (const wrong of [() => feedbackCuts(model, config), () => feedbackModel(model, config)]) {
      expect(wrong).toThrow(ArgumentError);
      expect(wrong).toThrow(`${name} must be a whole number from 1 to 5, the model's blocks, not ${block}.`);
    }
  });
});

describe("a backbone's fingerprint", () => {
  async function print(folder: NodeFolder, change: (model: StagedModel) => StagedModel = (model) => model, side = 8) {
    const raw = await readConfig(folder);
    const architecture = architectureOf(raw);
    const geometry = { batch: 2, height: side, width: side, tokens: tinyTokens };
    const model = architecture.model(architecture.parseConfig(raw), geometry);
    return fingerprint(change(model), await openWeights(folder));
  }

  const transformer = async (kind: "pixart" | "dit", options?: TinyOptions) =>
    new NodeFolder(join((await writeTinyPipeline(await temporaryFolder(), kind, options)).path, "transformer"));

  it("is that of config and weights, wherever they lie and whatever is sampled", async () => {
    const folder = await transformer("pixart");
    const own = await print(folder);
    expect(own).toMatch(/^[0-9a-f]{32}$/);
    const copy = await temporaryFolder();
    await cp(folder.path, copy, { recursive: true });
    expect(await print(new NodeFolder(copy))).toBe(own);
    expect(await print(folder, (model) => model, 12)).toBe(own);
  });

  it("is another with LoRAs, for each of their scales and matrices", async () => {
    const folder = await transformer("pixart");
    const name = "transformer_blocks.0.attn1.to_q.weight";
    const weights = await openWeights(folder);
    const entry = weights.entries.get(name)!;
    const other = weights.entries.get("transformer_blocks.0.attn1.to_k.weight")!;
    const model = architectureOf(await readConfig(folder));
    const backbone = model.model(model.parseConfig(await readConfig(folder)), {
      batch: 2,
      height: 8,
      width: 8,
      tokens: tinyTokens,
    });
    const changed = (...added: { scale: number; up: WeightEntry; down: WeightEntry }[]) =>
      fingerprint(backbone, new WeightFiles(new Map([...weights.entries, [name, { ...entry, added }]]), weights.files));
    const [one, two] = [
      { scale: 1, up: entry, down: entry },
      { scale: 0.5, up: entry, down: entry },
    ];
    const prints = await Promise.all([
      print(folder),
      changed(one),
      changed(two),
      changed({ ...one, up: other }),
      changed({ ...one, down: other }),
      changed(one, two),
      changed(two, one),
    ]);
    expect(new Set(prints).size).toBe(prints.length);
    expect(await changed()).toBe(prints[0]);
  });

  it("is another for other weights, settings, numbers of blocks and classes", async () => {
    const folder = await transformer("pixart");
    const others = [
      await print(folder),
      await print(folder, (model) => ({ ...model, settings: "patch_size 4" })),
      await print(folder, (model) => ({ ...model, className: "Another" })),
      await print(await transformer("pixart", { layers: 3 })),
      await print(await transformer("dit")),
    ];
    const { files, entries } = await openWeights(folder);
    const path = [...files.values()][0]!.source.nativePath!;
    const bytes = await readFile(path);
    // One bit of one tensor at a time.
    for (const { offset } of entries.values()) {
      const changed = Buffer.from(bytes);
      changed[offset]! ^= 1;
      await writeFile(path, changed);
      others.push(await print(folder));
    }
    expect(new Set(others).size).toBe(others.length);
  });
});
