/** The solver of a call: diffusers' from_config for another class, and eta, timesteps and sigmas of the caller's own. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decode } from "fast-png";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { pickScheduler, solverOf } from "../../src/components/solver.ts";
import { ArgumentError, ConfigError, type HalfstepError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { type TextToImage, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type SchedulerChoice, schedulerChoices } from "../../src/schedulers/registry.ts";
import changes from "../fixtures/scheduler-changes.json" with { type: "json" };
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const path = (name: string) => fileURLToPath(new URL(`../${name}`, import.meta.url));
type Config = Record<string, unknown>;

describe("another scheduler for a model", () => {
  const unJson = (config: object): Config =>
    Object.fromEntries(Object.entries(config).map(([key, value]) => [key, value === "-Infinity" ? -Infinity : value]));
  const sources = changes.sources as Record<string, Config>;
  const named = changes.cases.map((each) => [`${each.source} ${each.choice} ${each.steps}`, each] as const);

  // diffusers 0.42.1: cls.from_config(the model's), test/fixtures/scheduler-changes.py.
  it.each(named)("is diffusers' from_config: %s", (_, { source, choice, steps, timesteps, sigma, config }) => {
    const scheduler = pickScheduler(unJson(sources[source]!), choice as SchedulerChoice);
    scheduler.setTimesteps(steps);
    expect(scheduler.timesteps).toHaveLength(timesteps.length);
    for (const [i, t] of timesteps.entries()) {
      // Null where diffusers has NaN.
      if (t === null) expect(scheduler.timesteps[i]).toBeGreaterThan(0);
      else expect(scheduler.timesteps[i]).toBeCloseTo(t, 2);
    }
    if (sigma !== null) expect(scheduler.sigmas![0]! / sigma).toBeCloseTo(1, 5);
    for (const [key, value] of Object.entries(unJson(config ?? {}))) {
      if (value !== null) expect(scheduler.config[key], key).toEqual(value);
    }
  });

  it("is compared with diffusers for every scheduler of the table", () => {
    expect(new Set(changes.cases.map(({ choice }) => choice))).toEqual(new Set(Object.keys(schedulerChoices)));
  });

  it("starts DDIM for Stable Diffusion 1.5 at 876 in 8 steps: the offset carries over", () => {
    const scheduler = pickScheduler(sources["sd15"]!, "ddim");
    scheduler.setTimesteps(8);
    expect(scheduler.timesteps[0]).toBe(876);
    expect(scheduler.config).toMatchObject({ clip_sample: false, set_alpha_to_one: false });
  });

  it("spaces its timesteps as it is told, where the class can", () => {
    const scheduler = pickScheduler(sources["sd15"]!, "euler", "trailing");
    scheduler.setTimesteps(4);
    // As ByteDance's model card has them for Lightning in four steps.
    expect(scheduler.timesteps).toEqual([999, 749, 499, 249]);
    const flow = () => pickScheduler({ _class_name: "FlowMatchEulerDiscreteScheduler" }, undefined, "leading");
    expect(flow).toThrow(ArgumentError);
    expect(flow).toThrow("FlowMatchEulerDiscreteScheduler spaces its timesteps in one way only");
  });

  it.each(["__proto__", "constructor", "Euler", "heun!"])("is none called %s", (name) => {
    expect(() => pickScheduler(sources["sd15"]!, name as SchedulerChoice)).toThrow(ConfigError);
  });

  it.each<[string, SchedulerChoice, RegExp]>([
    ["FlowMatchEulerDiscreteScheduler", "ddim", /trained with flow matching; scheduler "ddim".*flow-heun.*can/],
    ["DDIMScheduler", "flow-euler", /trained with diffusion.*ddim, ddpm/],
    ["EDMEulerScheduler", "euler", /trained with EDM.*but edm-euler, edm-dpm-solver\+\+ can/],
    ["IPNDMScheduler", "ddim", /v-diffusion; scheduler "ddim" cannot sample from it\./],
  ])("is refused for models of another process: %s", (own, choice, message) => {
    expect(() => pickScheduler({ _class_name: own }, choice)).toThrow(ConfigError);
    expect(() => pickScheduler({ _class_name: own }, choice)).toThrow(message);
  });
});

describe("what a caller chooses of the steps", () => {
  const ddim = { _class_name: "DDIMScheduler", clip_sample: false };
  const euler = { _class_name: "EulerDiscreteScheduler" };

  it("is counted where it is a list", () => {
    expect(solverOf(ddim, {}, 20)).toMatchObject({ steps: 20 });
    expect(solverOf(euler, { timesteps: [900, 500, 100] }, 20)).toMatchObject({ steps: 3 });
    expect(solverOf(euler, { sigmas: [10, 5, 1, 0], steps: 3 }, 20)).toMatchObject({ steps: 3 });
  });

  it("is no noise for TCD, as in diffusers' pipelines, unless eta is given", () => {
    const tcd = { _class_name: "TCDScheduler" };
    expect(solverOf(tcd, {}, 4).eta).toBe(0);
    expect(solverOf(tcd, { eta: 0.3 }, 4).eta).toBe(0.3);
    expect(solverOf(euler, {}, 4).eta).toBeUndefined();
  });

  it.each<[string, Config, object, RegExp]>([
    ["eta for Euler", euler, { eta: 0 }, /eta is for DDIM and TCD; EulerDiscreteScheduler does not take it/],
    ["eta above 1", ddim, { eta: 1.5 }, /eta must be a number from 0 to 1, not 1.5/],
    ["eta that is none", ddim, { eta: Number.NaN }, /not NaN/],
    ["timesteps for DDIM", ddim, { timesteps: [900, 100] }, /DDIMScheduler: it does not take timesteps/],
    ["sigmas for DDIM", ddim, { sigmas: [9, 0] }, /DDIMScheduler: it does not take sigmas/],
    [
      "another number of steps",
      euler,
      { timesteps: [900, 100], steps: 20 },
      /steps is 20, but the timesteps are for 2/,
    ],
    ["both lists", euler, { timesteps: [900, 100], sigmas: [9, 0] }, /not both/],
    ["no steps", ddim, { steps: 0 }, /steps must be a whole number from 1 to 1000/],
    ["too many steps", ddim, { steps: 1e9 }, /steps must be a whole number from 1 to 1000/],
  ])("is refused as %s", (_, config, options, message) => {
    expect(() => solverOf(config, options, 20)).toThrow(ArgumentError);
    expect(() => solverOf(config, options, 20)).toThrow(message);
  });
});

describe("a pipeline", () => {
  let folder: NodeFolder;
  let pipe: TextToImage;
  beforeAll(async () => {
    folder = await writeTinyPipeline(await temporaryFolder(), "pixart");
    pipe = await open();
  });
  const open = () => TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
  const draw = async (options: TextToImageOptions) =>
    (await pipe("a red cat", { seed: 7, ...options })).images[0]!.data;

  it("runs at the timesteps that it is given", async () => {
    const seen: number[] = [];
    const { timesteps } = solverOf(pipe.schedulerConfig, { scheduler: "euler" }, 3).scheduler;
    const own = await draw({ scheduler: "euler", timesteps, onStep: ({ timestep }) => void seen.push(timestep) });
    expect(seen).toEqual(timesteps);
    expect(own).toEqual(await draw({ scheduler: "euler", steps: 3 }));
    expect(own).not.toEqual(await draw({ scheduler: "euler", timesteps: [900, 500, 100] }));
  });

  it("runs at the sigmas that it is given", async () => {
    const { sigmas } = solverOf(pipe.schedulerConfig, { scheduler: "euler" }, 3).scheduler;
    expect(await draw({ scheduler: "euler", sigmas: sigmas! })).toEqual(await draw({ scheduler: "euler", steps: 3 }));
  });

  it("adds DDIM's noise as eta says", async () => {
    const plain = await draw({ scheduler: "ddim", steps: 3 });
    expect(await draw({ scheduler: "ddim", steps: 3, eta: 0 })).toEqual(plain);
    const noisy = await draw({ scheduler: "ddim", steps: 3, eta: 1 });
    expect(noisy).not.toEqual(plain);
    expect(await draw({ scheduler: "ddim", steps: 3, eta: 1 })).toEqual(noisy);
    await expect(draw({ scheduler: "euler", steps: 3, eta: 1 })).rejects.toThrow(ArgumentError);
  });

  it("tells of latents that are clipped only because the configuration does not say", async () => {
    const { warnings } = await pipe("a red cat", { scheduler: "ddim", steps: 2 });
    const says = pipe.schedulerConfig["clip_sample"] === undefined;
    expect(warnings.some((warning) => warning.includes("clip_sample"))).toBe(says);
    expect((await pipe("a red cat", { scheduler: "euler", steps: 2 })).warnings).toEqual([]);
  });

  it("refuses another component as its scheduler, by class", async () => {
    const file = join(folder.path, "scheduler/scheduler_config.json");
    const indexFile = join(folder.path, "model_index.json");
    const [config, index] = await Promise.all([file, indexFile].map((name) => readFile(name, "utf8")));
    const refused = async (where: string, text: string, message: RegExp) => {
      await writeFile(where, text);
      const error = await open().then(
        () => undefined,
        (reason: HalfstepError) => reason,
      );
      await Promise.all([writeFile(file, config!), writeFile(indexFile, index!)]);
      expect(error).toBeInstanceOf(ConfigError);
      expect(error?.message).toMatch(message);
    };
    const changed = (text: string, change: object) => JSON.stringify({ ...(JSON.parse(text) as object), ...change });
    await refused(
      file,
      changed(config!, { _class_name: "AutoencoderKL" }),
      /scheduler_config.json.*"AutoencoderKL".*DDIM/,
    );
    await refused(file, changed(config!, { _class_name: 7 }), /scheduler_config.json: the scheduler is 7/);
    await refused(
      indexFile,
      changed(index!, { scheduler: ["diffusers", "AutoencoderKL"] }),
      /model_index.json.*"AutoencoderKL"/,
    );
  });

  it("takes the class from model_index.json if the scheduler's own file names none", async () => {
    const file = join(folder.path, "scheduler/scheduler_config.json");
    const text = await readFile(file, "utf8");
    const { _class_name: name, ...rest } = JSON.parse(text) as Config;
    await writeFile(file, JSON.stringify(rest));
    expect((await open()).schedulerConfig["_class_name"]).toBe(name);
    await writeFile(file, text);
  });
});

/** The largest difference to a picture by diffusers' PixArtSigmaPipeline, in 256 levels. */
async function differenceTo(name: string, { width, height, data }: Picture): Promise<number> {
  const right = decode(await readFile(path(`fixtures/pictures/${name}.png`)));
  expect([width, height]).toEqual([right.width, right.height]);
  const [ours, theirs] = [data, right.data].map((values) => values.length / (width * height));
  let largest = 0;
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      largest = Math.max(largest, Math.abs(data[i * ours! + c]! - right.data[i * theirs! + c]!));
    }
  }
  return largest;
}

// Without ILF; one level more or less is rounding, which processors differ in.
const apple = { seed: 7, guidanceScale: 3, accelerate: "none" } as const;

// diffusers 0.42.1, test/fixtures/pictures.py.
describe("the embedded model draws what diffusers draws", () => {
  let pipe: TextToImage;
  beforeAll(async () => {
    pipe = await TextToImagePipeline.fromPretrained("fluent-emoji", { threads: 1 });
  });
  afterAll(() => pipe.release());

  it.each<[string, TextToImageOptions]>([
    ["ddim-eta", { scheduler: "ddim", steps: 8, eta: 0.5 }],
    ["euler-a", { scheduler: "euler-a", steps: 8 }],
    ["unipc", { scheduler: "unipc", steps: 8 }],
    ["lcm", { scheduler: "lcm", steps: 8 }],
    ["single-dpm-solver++", { scheduler: "single-dpm-solver++", steps: 8 }],
    ["sasolver", { scheduler: "sasolver", steps: 8 }],
    ["deis", { scheduler: "deis", steps: 8 }],
    ["lms", { scheduler: "lms", steps: 8 }],
    ["tcd-eta", { scheduler: "tcd", steps: 4, eta: 0.3 }],
    ["sde-timesteps", { scheduler: "sde-dpm-solver++", timesteps: [980, 700, 400, 200, 50] }],
  ])(
    "with %s",
    async (name, options) => {
      const { images } = await pipe("a red apple", { ...apple, ...options });
      expect(await differenceTo(name, images[0]!)).toBeLessThanOrEqual(1);
    },
    60_000,
  );
});

describe("the embedded model with DDPM, linspace spacing", () => {
  it("draws what diffusers draws: each step goes to the schedule's next timestep", async () => {
    const folder = new NodeFolder(await temporaryFolder(), "changed");
    await cp(path("../checkpoints/fluent-emoji"), folder.path, { recursive: true });
    const config = {
      _class_name: "DDPMScheduler",
      beta_schedule: "squaredcos_cap_v2",
      prediction_type: "v_prediction",
      clip_sample: false,
      timestep_spacing: "linspace",
    };
    await writeFile(join(folder.path, "scheduler/scheduler_config.json"), JSON.stringify(config));
    const pipe = await TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
    const { images } = await pipe("a red apple", { ...apple, steps: 10 });
    await pipe.release();
    // By PixArtSigmaPipeline of diffusers 0.39 (clean_caption=False, use_resolution_binning=False).
    expect(await differenceTo("ddpm-linspace", images[0]!)).toBeLessThanOrEqual(1);
  }, 60_000);
});
