/** `generate` with Stable Diffusion: from an image, part of an image; what cannot be. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decode } from "fast-png";
import { beforeAll, describe, expect, it } from "vitest";
import { encodePng, type Picture } from "../../src/media/picture.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { drawnMask, drawnPicture, writeStableDiffusion } from "../support/stable-diffusion.ts";

let folder: string;
let model: string;
const image = drawnPicture(20, 16);
const mask = drawnMask(20, 16);
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await temporaryFolder();
  model = (await writeStableDiffusion("sd")).path;
  const files: [string, Picture][] = [
    ["image.png", image],
    ["mask.png", mask],
    ["small.png", drawnMask(8, 8)],
  ];
  for (const [name, picture] of files) await writeFile(at(name), encodePng(picture));
  await writeFile(at("no.png"), "not a picture");
});

const generate = (...args: string[]) =>
  halfstepHere(
    "generate",
    "a cat",
    "--model",
    model,
    "--steps",
    "4",
    "--seed",
    "3",
    "--threads",
    "1",
    "--quiet",
    ...args,
  );

it("an image and a mask from files give what the library gives", async () => {
  const pipe = await TextToImagePipeline.fromFolder(await writeStableDiffusion("sd"), nodeRuntime, { threads: 1 });
  const settings = { steps: 4, seed: 3, strength: 0.6, clipSkip: 1 };
  for (const [name, options] of [
    ["img2img", { image }],
    ["inpaint", { image, mask }],
  ] as const) {
    const files = ["--image", at("image.png"), ...("mask" in options ? ["--mask", at("mask.png")] : [])];
    const args = [...files, "--strength", "0.6", "--clip-skip", "1", "--out", at(`${name}.png`), "--json"];
    const { code, stdout, stderr } = await generate(...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({
      image: at("image.png"),
      strength: 0.6,
      clipSkip: 1,
      width: 20,
      height: 16,
    });
    const { images } = await pipe("a cat", { ...settings, ...options });
    expect([...decode(await readFile(at(`${name}.png`))).data]).toEqual([...images[0]!.data]);
  }
  await pipe.release();
});

it("options of Stable Diffusion XL reach the model", async () => {
  const xl = await writeStableDiffusion("sdxl");
  const pipe = await TextToImagePipeline.fromFolder(xl, nodeRuntime, { threads: 1 });
  const given = {
    prompt2: "a dog",
    negativePrompt2: "a house",
    originalSize: [30, 40],
    targetSize: [24, 32],
    cropsCoordsTopLeft: [2, 3],
    negativeOriginalSize: [20, 10],
    negativeTargetSize: [12, 14],
    negativeCropsCoordsTopLeft: [1, 4],
    promptWeights: true,
  } as const;
  const args = [
    ...["--prompt2", "a dog", "--negative-prompt-2", "a house", "--original-size", "40x30", "--target-size", "32x24"],
    ...["--crop", "3,2", "--negative-original-size", "10x20", "--negative-target-size", "14x12"],
    ...["--negative-crop", "4,1", "--prompt-weights", "--model", xl.path, "--out", at("xl.png"), "--json"],
  ];
  const { code, stdout, stderr } = await generate(...args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(JSON.parse(stdout)).toMatchObject(given);
  const { images } = await pipe("a cat", { ...given, steps: 4, seed: 3 });
  expect([...decode(await readFile(at("xl.png"))).data]).toEqual([...images[0]!.data]);
  await pipe.release();
});

it("--vae gives the model another autoencoder", async () => {
  const vae = await writeStableDiffusion("sd-tiny");
  const { code, stdout } = await generate("--vae", join(vae.path, "vae"), "--out", at("tiny.png"), "--json");
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ vae: join(vae.path, "vae") });
  const pipe = await TextToImagePipeline.fromFolder(vae, nodeRuntime, { threads: 1 });
  const { images } = await pipe("a cat", { steps: 4, seed: 3 });
  expect([...decode(await readFile(at("tiny.png"))).data]).toEqual([...images[0]!.data]);
  await pipe.release();
});

describe("is refused:", () => {
  it.each<[string[], string]>([
    [["--image", "no.png"], "cannot be read as a picture"],
    [["--init-image", "image.png", "--denoising-strength", "0"], "above 0 and at most 1"],
    [["--image", "none.png"], "cannot be read as a picture"],
    [["--image", "image.png", "--mask", "small.png"], "The mask has 8 x 8 pixels and the image 20 x 16"],
    [["--mask", "mask.png"], "--mask goes with --image"],
    [["--strength", "0.5"], "strength goes with an image"],
    [["--image", "image.png", "--strength", "0"], "above 0 and at most 1"],
    [["--image", "image.png", "--strength", "1.5"], "from 0 to 1"],
    [["--accelerate", "first-block"], "unet"],
    [["--prompt2", "a dog"], "prompt2 is for Stable Diffusion XL"],
    [["--original-size", "1024"], "must be a width and a height: 1024x768"],
    [["--original-size", "1024x70000"], "at most 65535"],
    [["--crop", "1,2,3"], "must be the distances from the left and from the top"],
    [["--vae", "no-such-folder/x/y"], "There is no folder"],
    [["--prediction-type", "v"], "Allowed choices are epsilon, v_prediction"],
    [["--prediction-type", "epsilon"], "predictionType is for a model in one file"],
  ])("%o", async (args, message) => {
    const paths = args.map((value) => (value.endsWith(".png") ? at(value) : value));
    const { code, stderr } = await generate(...paths, "--out", at("never.png"));
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
  });

  it("an image for a model of classes", async () => {
    const args = ["--class", "3", "--model", fixture("pipelines/dit").path, "--image", at("image.png")];
    const { stderr } = await halfstepHere("generate", ...args, "--out", at("never.png"));
    expect(stderr).toContain("--image goes with a prompt");
    const crop = ["--class", "3", "--model", fixture("pipelines/dit").path, "--crop", "0,0"];
    expect((await halfstepHere("generate", ...crop)).stderr).toContain("--crop goes with a prompt");
  });
});
