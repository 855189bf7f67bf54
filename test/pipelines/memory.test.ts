/** Images within a budget of memory: the same as without one, for every pipeline of images. */
import { beforeAll, describe, expect, it } from "vitest";
import { ArgumentError, BudgetError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { temporaryFolder } from "../support/models.ts";
import { drawnMask, drawnPicture, stableDiffusionCases, writeStableDiffusion } from "../support/stable-diffusion.ts";
import { tinyClasses, writeTinyPipeline } from "../support/tiny-pipeline.ts";

const threads = 1;

interface Drawn {
  readonly images: readonly Picture[];
  readonly planned?: readonly { readonly name: string; readonly peak: number }[];
  readonly fullSteps: number;
}
type Options = Record<string, unknown>;
interface Case {
  readonly draw: (options: Options) => Promise<Drawn>;
  /** The parts that take memory, one after the other. */
  readonly parts: readonly string[];
  readonly release: () => Promise<void>;
}

const image = drawnPicture(20, 16);

/** Of pipelines with several. */
const encoderCounts: Readonly<Record<string, readonly number[]>> = {
  sdxl: [1, 2],
  sd3: [1, 2, 3],
  "sd3-no-t5": [1, 2],
};

async function opened(name: string): Promise<Case> {
  if (name === "dit") {
    const pipe = await ClassToImagePipeline.fromFolder(
      await writeTinyPipeline(await temporaryFolder(), "dit"),
      nodeRuntime,
      { threads },
    );
    const draw = (options: Options) => pipe([7, tinyClasses - 1], { seeds: [1, 2], steps: 2, ...options });
    return { draw, parts: ["denoiser", "decoder"], release: () => pipe.release() };
  }
  const folder =
    name === "pixart"
      ? await writeTinyPipeline(await temporaryFolder(), "pixart")
      : await writeStableDiffusion(name as (typeof stableDiffusionCases)[number]);
  const pipe = await TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads });
  const encodes = ["sd-inpaint", "sdxl-refiner"].includes(name);
  const needed = { ...(encodes && { image, strength: 1 }), ...(name === "sd-inpaint" && { mask: drawnMask(20, 16) }) };
  const draw = (options: Options) => pipe(["a cat", "a red house"], { seeds: [1, 2], steps: 2, ...needed, ...options });
  const encoders = (encoderCounts[name] ?? [1]).map((i, _, all) =>
    all.length > 1 ? `text encoder ${i}` : "text encoder",
  );
  const parts = [...encoders, ...(encodes ? ["image encoder"] : []), "denoiser", "decoder"];
  return { draw, parts, release: () => pipe.release() };
}

const names = ["dit", "pixart", ...stableDiffusionCases];
const cases = new Map<string, Case>();
beforeAll(async () => {
  for (const name of names) cases.set(name, await opened(name));
  return async () => {
    for (const { release } of cases.values()) await release();
  };
});

/** In steps of 8-bit pixels. */
function furthest(a: Drawn, b: Drawn): number {
  expect(a.images.length).toBe(b.images.length);
  return Math.max(
    ...a.images.map(({ data }, i) =>
      data.reduce((most, x, at) => Math.max(most, Math.abs(x - b.images[i]!.data[at]!)), 0),
    ),
  );
}

async function refusal(drawing: Promise<unknown>): Promise<BudgetError> {
  const error = await drawing.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BudgetError);
  return error as BudgetError;
}

describe.each(names)("%s within a budget of memory", (name) => {
  it("is refused one that no plan keeps to, with the smallest that one does", async () => {
    const { draw, parts } = cases.get(name)!;
    const { smallest } = await refusal(draw({ memory: "1MB" }));
    const whole = await draw({});
    const least = await draw({ memory: smallest });
    expect(whole.planned).toBeUndefined();
    expect(least.planned!.map((part) => part.name)).toEqual(parts);
    expect(Math.max(...least.planned!.map(({ peak }) => peak))).toBeLessThanOrEqual(smallest);
    expect(furthest(least, whole)).toBeLessThanOrEqual(1);
    await refusal(draw({ memory: smallest - 1.1e6 }));
  });

  it("draws what it draws without one with guidance in some of the steps", async () => {
    const { draw } = cases.get(name)!;
    const options = { guidanceInterval: [0.5, 1] };
    const [whole, planned] = [await draw(options), await draw({ ...options, memory: "1GB" })];
    expect(furthest(planned, whole)).toBeLessThanOrEqual(1);
    expect(planned.fullSteps).toBe(whole.fullSteps);
  });
});

describe("methods that see the output alone, within a budget", () => {
  it.each([
    ["sd", { method: "easycache", threshold: 0.4 }],
    ["sd", { method: "taylorseer", schedule: { every: 2 } }],
    ["dit", { method: "easycache", threshold: 5 }],
  ] as const)("%s: %j draws what it draws without one, with as many full steps", async (name, accelerate) => {
    const { draw } = cases.get(name)!;
    const options = { steps: 7, accelerate, guidanceInterval: [0, 0.8] };
    const [whole, planned] = [await draw(options), await draw({ ...options, memory: "1GB" })];
    expect(furthest(planned, whole)).toBeLessThanOrEqual(1);
    expect(planned.fullSteps).toBe(whole.fullSteps);
    expect(planned.fullSteps).toBeLessThan(7);
  });

  it.each(["cache", "first-block", "taylorseer"])(
    "%s of a transformer is refused: it needs the blocks",
    async (accelerate) => {
      const drawn = cases.get("dit")!.draw({ memory: "1GB", accelerate });
      await expect(drawn).rejects.toThrow(ArgumentError);
      await expect(drawn).rejects.toThrow(
        `memory and accelerate "${accelerate}" do not go together; with memory go easycache, `,
      );
    },
  );
});

describe("an image to begin at, within a budget", () => {
  it.each(["pixart", "sdxl"])("%s", async (name) => {
    const { draw } = cases.get(name)!;
    const options = { image: drawnPicture(32, 16), strength: 0.7, steps: 4 };
    const [whole, planned] = [await draw(options), await draw({ ...options, memory: "1GB" })];
    expect(planned.planned!.map((part) => part.name)).toContain("image encoder");
    expect(furthest(planned, whole)).toBeLessThanOrEqual(1);
  });
});

describe("networks that run one after the other", () => {
  it("are never in memory together, whatever an earlier call left", async () => {
    const alive: string[] = [];
    const together = new Set<string>();
    let watched = false;
    const compile: Runtime["compile"] = async (model, weights, options) => {
      const session = await nodeRuntime.compile(model, weights, options);
      const [location] = weights!.values();
      const network = (location as { path: string }).path;
      alive.push(network);
      if (watched) together.add([...new Set(alive)].join(" and "));
      const release = () => {
        alive.splice(alive.indexOf(network), 1);
        return session.release();
      };
      const { inputNames, outputNames } = session;
      return { inputNames, outputNames, run: (feeds, into) => session.run(feeds, into), release };
    };
    const runtime = Object.create(nodeRuntime, { compile: { value: compile } }) as Runtime;
    const folder = await writeStableDiffusion("sdxl");
    const pipe = await TextToImagePipeline.fromFolder(folder, runtime, { threads });
    const options = { steps: 2, strength: 0.5, seed: 1, image };
    await pipe("a cat", options);
    expect(new Set(alive).size).toBeGreaterThan(2);
    watched = true;
    await pipe("a cat", { ...options, memory: "1GB" });
    expect([...together].map((path) => path.slice(folder.path.length + 1).split("/")[0]).sort()).toEqual(
      ["text_encoder", "text_encoder_2", "unet", "vae"].sort(),
    );
    expect([...together].join()).not.toContain(" and ");
    await pipe.release();
    expect(alive).toEqual([]);
  });
});
