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

describe("is refused:", () => {
  it.each<[string[], string]>([
    [["--image", "no.png"], "cannot be read as a picture"],
    [["--image", "none.png"], "cannot be read as a picture"],
    [["--image", "image.png", "--mask", "small.png"], "The mask has 8 x 8 pixels and the image 20 x 16"],
    [["--mask", "mask.png"], "--mask goes with --image"],
    [["--strength", "0.5"], "strength goes with an image"],
    [["--image", "image.png", "--strength", "0"], "above 0 and at most 1"],
    [["--image", "image.png", "--strength", "1.5"], "from 0 to 1"],
    [["--accelerate", "first-block"], "unet"],
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
  });
});
