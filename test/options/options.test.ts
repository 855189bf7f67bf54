import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { callback, flag, listOf, number, oneOf, oneOrList, signal, text, whole } from "../../src/checks.ts";
import { ArgumentError } from "../../src/errors.ts";
import { nearestName } from "../../src/options/nearest-name.ts";
import { type OptionTable, readOptions, settings } from "../../src/options/options.ts";

interface Options {
  steps?: number;
  guidanceScale?: number;
  negativePrompt?: string;
  count?: number;
  provider?: string;
  onStep?: (step: unknown) => void;
  onDownload?: (progress: unknown) => void;
  signal?: AbortSignal;
  accelerate?: { method: string; threshold?: number };
}

const table: OptionTable<Options> = {
  steps: whole(1, 1000),
  guidanceScale: number(),
  negativePrompt: text,
  count: whole(1, 8),
  provider: oneOf(["cpu", "webgpu"]),
  onStep: callback,
  onDownload: callback,
  signal,
  accelerate: settings<{ method: string; threshold?: number }>({ method: oneOf(["ilf"]), threshold: number(0) }),
};
const read = (options: unknown) => readOptions<Options>(options, table, { of: "pipe", self: "the pipeline" });

describe("readOptions", () => {
  it("gives what was given, without what is undefined", () => {
    expect(read({ steps: 4, guidanceScale: -1.5, negativePrompt: "", count: undefined })).toEqual({
      steps: 4,
      guidanceScale: -1.5,
      negativePrompt: "",
    });
    expect(read(undefined)).toEqual({});
  });

  it.each([
    ["numInferenceSteps", 5, "steps"],
    ["num_inference_steps", 5, "steps"],
    ["guidance_scale", 5, "guidanceScale"],
    ["cfg_scale", 5, "guidanceScale"],
    ["negative_prompt", "no", "negativePrompt"],
    ["numImagesPerPrompt", 5, "count"],
    ["num_videos_per_prompt", 5, "count"],
    ["device", "webgpu", "provider"],
    ["onProgress", () => {}, "onDownload"],
  ])("takes %s for what it is called here", (name, value, own) => {
    expect(read({ [name]: value })).toEqual({ [own]: value });
  });

  it("checks a value under another name as it does under its own", () => {
    expect(() => read({ numInferenceSteps: 0 })).toThrow(
      "numInferenceSteps must be a whole number from 1 to 1000, not 0.",
    );
    expect(() => read({ device: "tpu" })).toThrow('device must be one of cpu, webgpu, not the string "tpu".');
  });

  it("refuses one option under two names", () => {
    expect(() => read({ steps: 4, num_inference_steps: 4 })).toThrow(
      'pipe: "steps" and "num_inference_steps" are the same option; give one of them.',
    );
  });

  it.each([
    ["step", "steps"],
    ["Steps", "steps"],
    ["stpes", "steps"],
    ["guidance", "guidanceScale"],
    ["guidenceScale", "guidanceScale"],
    ["negative", "negativePrompt"],
    ["negativprompt", "negativePrompt"],
    ["onstep", "onStep"],
  ])("says for %s that %s was meant", (given, meant) => {
    expect(() => read({ [given]: 1 })).toThrow(`pipe has no option "${given}". Did you mean "${meant}"?`);
  });

  it("lists the options where none is near, and says what to do about what other libraries have", () => {
    expect(() => read({ colour: 1 })).toThrow(/no option "colour"\. There are steps, guidanceScale/);
    expect(() => read({ image: {} })).toThrow(/no option "image": .*ImageToVideoPipeline/);
    expect(() => read({ torch_dtype: "fp16" })).toThrow(/no option "torch_dtype": .*variant/);
    expect(() => read({ generator: {} })).toThrow(/seed/);
  });

  it("knows no names that objects have by themselves", () => {
    for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
      expect(() => read(JSON.parse(`{"${name}": 1}`))).toThrow(`no option "${name}"`);
      expect(() => read({ accelerate: JSON.parse(`{"method": "ilf", "${name}": 1}`) })).toThrow(`no option "${name}"`);
    }
  });

  it("looks into options that have options", () => {
    expect(read({ accelerate: { method: "ilf", threshold: undefined } }).accelerate?.method).toBe("ilf");
    expect(() => read({ accelerate: { method: "ilf", treshold: 1 } })).toThrow('Did you mean "threshold"?');
    expect(() => read({ accelerate: { method: "ilf", threshold: Number.NaN } })).toThrow(
      "accelerate.threshold must be a number of at least 0, not NaN.",
    );
  });

  it.each([[[]], ["fast"], [null], [7], [new AbortController().signal], [new Map()]])(
    "refuses %s as options",
    (options) => {
      expect(() => read(options)).toThrow(/pipe: options must be a plain object/);
    },
  );

  it("takes callbacks as diffusers and transformers.js have them", async () => {
    const seen: unknown[] = [];
    const { onStep, onDownload } = read({
      callbackOnStepEnd: (...args: unknown[]) => {
        seen.push(args);
        return { latents: "x" };
      },
      progress_callback: (info: unknown) => seen.push(info),
    });
    await onStep!({ index: 2, steps: 4, timestep: 500, latents: "x" });
    await expect(async () => onStep!({ index: 2, steps: 4, timestep: 500, latents: "y" })).rejects.toThrow(
      ArgumentError,
    );
    onDownload!({ file: "a", fileLoaded: 1, fileSize: 4, loaded: 3, total: 8 });
    expect(seen[0]).toEqual(["the pipeline", 2, 500, { latents: "x" }]);
    expect(seen[2]).toEqual({ status: "progress", file: "a", loaded: 1, total: 4, progress: 25 });
  });

  it("throws nothing but ArgumentError, whatever it is given", () => {
    const names = fc.oneof(fc.constantFrom(...Object.keys(table), "num_frames", "device"), fc.string());
    fc.assert(
      fc.property(fc.dictionary(names, fc.anything()), (options) => {
        try {
          read(options);
        } catch (error) {
          expect(error).toBeInstanceOf(ArgumentError);
          expect((error as Error).message.length).toBeLessThan(400);
        }
      }),
    );
  });
});

describe("checks", () => {
  it.each([
    [whole(1, 10), [1, 10], [0, 11, 1.5, "5", Number.NaN, null, 5n, [5], true]],
    [number(0, 1), [0, 0.5, 1, -0], [-0.1, 1.1, Number.NaN, Infinity, "0.5"]],
    [number(), [-1e300, 1e300], [Infinity, -Infinity, Number.NaN]],
    [flag, [true, false], [0, 1, "true", null]],
    [text, ["", "a"], [1, ["a"], null, new Date()]],
    [oneOf(["a"]), ["a"], ["b", ["a"], 0]],
    [signal, [new AbortController().signal], [new AbortController(), {}, true]],
    [listOf(whole(0, 9), { least: 1, most: 2 }), [[1], [1, 2]], [[], [1, 2, 3], [-1], new Array(1), 1, "12"]],
    [oneOrList(text, { most: 2 }), ["a", ["a", "b"]], [["a", 1], 1, ["a", "b", "c"]]],
  ])("%# accept what they should, and nothing else", (check, good, bad) => {
    for (const value of good) expect(() => check(value, "x")).not.toThrow();
    for (const value of bad) expect(() => check(value, "x")).toThrow(ArgumentError);
  });
});

describe("nearestName", () => {
  it("finds a name in spite of one letter that is missing, doubled, wrong or swapped with the next", () => {
    const names = ["negativePrompt", "guidanceScale", "steps", "scheduler", "accelerate"];
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.nat(),
        fc.constantFrom("drop", "double", "change", "swap"),
        (name, at, how) => {
          const i = at % name.length;
          const changed = {
            drop: name.slice(0, i) + name.slice(i + 1),
            double: name.slice(0, i) + name[i] + name.slice(i),
            change: `${name.slice(0, i)}q${name.slice(i + 1)}`,
            swap: name.slice(0, i) + (name[i + 1] ?? "") + name[i] + name.slice(i + 2),
          }[how];
          expect(nearestName(changed, names)).toBe(name);
        },
      ),
    );
  });

  it("finds none where everything is another word", () => {
    expect(nearestName("zebra", ["steps", "seed", "count"])).toBeNull();
    expect(nearestName("", ["steps"])).toBeNull();
    expect(nearestName("x", [])).toBeNull();
  });
});
