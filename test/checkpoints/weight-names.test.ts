import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chooseWeights, isPickle, variantsOf, whyNoWeights } from "../../src/checkpoints/weight-names.ts";
import { CheckpointError } from "../../src/errors.ts";

const variant = fc.constantFrom("fp16", "bf16", "fp32", "non_ema", "fp16-ema", "index", "safetensors");
const infix = fc.option(variant, { nil: undefined }).map((name) => (name === undefined ? "" : `.${name}`));
const stem = fc.constantFrom("diffusion_pytorch_model", "model", "pytorch_model", "open_clip_pytorch_model");
const name = fc.oneof(
  fc.tuple(stem, infix).map(([stem, infix]) => `${stem}${infix}.safetensors`),
  fc.tuple(stem, infix).map(([stem, infix]) => `${stem}.safetensors.index${infix}.json`),
  fc.tuple(stem, infix).map(([stem, infix]) => `${stem}${infix}.safetensors.index.json`),
  fc.tuple(stem, infix, fc.nat(3)).map(([stem, infix, i]) => `${stem}${infix}-0000${i}-of-00003.safetensors`),
  fc.tuple(stem, infix, fc.nat(3)).map(([stem, infix, i]) => `${stem}-0000${i}-of-00003${infix}.safetensors`),
  fc.tuple(stem, infix).map(([stem, infix]) => `${stem}${infix}.bin`),
  fc.string(),
);
const names = fc.uniqueArray(name, { maxLength: 12 });
const asked = fc.option(variant, { nil: undefined });

describe("whatever files a folder has", () => {
  it("what is chosen is among them, of one variant, and the one that was asked for if it is there", () =>
    fc.assert(
      fc.property(names, asked, (all, wanted) => {
        const variants = variantsOf(all);
        let choice: ReturnType<typeof chooseWeights>;
        try {
          choice = chooseWeights(all, wanted, "m");
        } catch (error) {
          expect(error).toBeInstanceOf(CheckpointError);
          for (const found of variants) expect((error as Error).message).toContain(found);
          expect(variants.length).toBeGreaterThan(1);
          return;
        }
        if (!choice) {
          expect(variants).toEqual([]);
          return;
        }
        for (const file of [choice.file, ...choice.shards]) expect(all).toContain(file);
        expect(variantsOf([choice.file])).toEqual([choice.variant]);
        if (wanted !== undefined && variants.includes(wanted)) expect(choice.variant).toBe(wanted);
        else if (variants.includes("")) expect(choice.variant).toBe("");
      }),
      { numRuns: 2000 },
    ));

  it("the order in which they are listed does not matter", () =>
    fc.assert(
      fc.property(names, asked, (all, wanted) => {
        const chosen = (list: readonly string[]) => {
          try {
            return chooseWeights(list, wanted, "m")?.file;
          } catch (error) {
            return (error as Error).message;
          }
        };
        expect(chosen(all.toReversed())).toBe(chosen(all));
      }),
    ));

  it("an error names pickles if there are any", () =>
    fc.assert(
      fc.property(names, (all) => {
        expect(whyNoWeights(all).includes("pickle")).toBe(all.some(isPickle));
      }),
    ));

  it("a name of a million characters takes no time", () => {
    const long = "x".repeat(1e6);
    for (const hostile of [`model.${long}`, `model.${"-1-of-1".repeat(1e5)}.json`, `${long}.bin`])
      variantsOf([hostile]);
  }, 5000);
});
