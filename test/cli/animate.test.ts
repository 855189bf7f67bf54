import { execFile, spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { encodePng, pngText } from "../../src/media/picture.ts";
import { readPicture } from "../../src/media/picture-node.ts";
import { recordedVideos, writeAnimateDiff } from "../support/animatediff.ts";
import { halfstep, root } from "../support/cli.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";
import { recordedVideo, writeVideoPipeline } from "../support/video-pipelines.ts";

const command = ["--import", "tsx", join(root, "src/cli/main.ts"), "animate"];

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  model = (await writeVideoPipeline("animatediff")).path;
});

const animate = (...args: string[]) => halfstep("animate", ...args);

describe("halfstep animate", () => {
  it("writes a GIF of a prompt and says with JSON what is in it", async () => {
    const out = join(folder, "party.gif");
    const args = [
      "a cat",
      "--model",
      model,
      "--out",
      out,
      "--frames",
      "5",
      "--steps",
      "2",
      "--seed",
      "3",
      "--json",
      "--quiet",
    ];
    const { code, stdout, stderr } = await animate(...args, "--width", "24", "--threads", "1");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ prompt: "a cat", model, frames: 5, fps: 8, steps: 2, seed: 3, files: [out] });
    expect(report.seconds).toBeGreaterThanOrEqual(report.toFirstStep);
    const { pages, width, pageHeight, delay } = await sharp(out, { animated: true }).metadata();
    expect({ pages, width, pageHeight }).toEqual({ pages: 5, width: 24, pageHeight: 16 });
    expect(delay!.reduce((a, b) => a + b)).toBe(630);
  });

  it("draws with the model of this repository unless told otherwise: a red heart on white, that moves", async () => {
    const out = join(folder, "heart.gif");
    const { code, stdout } = await animate("a beating heart", "--out", out, "--seed", "0", "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      model: "fluent-emoji-motion",
      frames: 16,
      guidanceScale: 4.5,
      steps: 25,
    });
    const { data, info } = await sharp(out, { animated: true })
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect([info.width, info.height]).toEqual([64, 16 * 64]);
    const pixel = (frame: number, x: number, y: number) => {
      const at = 3 * ((64 * frame + y) * 64 + x);
      return [...data.subarray(at, at + 3)] as [number, number, number];
    };
    for (let frame = 0; frame < 16; frame++) {
      const [red, green, blue] = pixel(frame, 32, 32);
      expect(red, `frame ${frame}`).toBeGreaterThan(1.5 * Math.max(green, blue));
      expect(Math.min(...pixel(frame, 2, 61))).toBeGreaterThan(240);
    }
    const frames = Array.from({ length: 16 }, (_, i) => data.subarray(i * 64 * 64 * 3, (i + 1) * 64 * 64 * 3));
    const changed = frames
      .slice(1)
      .map((frame, i) => frame.reduce((sum, v, k) => sum + Math.abs(v - frames[i]![k]!), 0));
    expect(Math.min(...changed)).toBeGreaterThan(0);
  });

  it("writes a folder of frames that begin at a picture", async () => {
    const svd = (await writeVideoPipeline("svd")).path;
    const { call } = await recordedVideo("svd");
    const image = join(folder, "start.png");
    const data = Uint8Array.from({ length: 3 * 60 * 41 }, (_, i) => (i * i * 7 + i * 31) % 256);
    await writeFile(image, encodePng({ width: 60, height: 41, data }));
    expect((await readPicture(image)).data).toEqual(data);
    const out = join(folder, "frames/");
    const size = ["--width", String(call["width"]), "--height", String(call["height"]), "--frames", "2"];
    const { code, stdout } = await animate(
      "--image",
      image,
      "-m",
      svd,
      "-o",
      out,
      ...size,
      "--steps",
      "1",
      "--seed",
      "5",
    );
    expect({ code, line: stdout.trim() }).toEqual({
      code: 0,
      line: expect.stringMatching(/^2 frames in .*frames \(2 frames, seed 5, .* s\)$/),
    });
    expect(await readdir(out)).toEqual(["0001.png", "0002.png"]);
    expect(pngText(await readFile(join(out, "0002.png")))).toMatchObject({ seed: "5" });
  });

  it("makes several videos of several prompts, each the one of its seed alone", async () => {
    const out = join(folder, "clip.gif");
    const size = ["--model", model, "--frames", "2", "--steps", "1", "--threads", "1"];
    const prompts = join(folder, "prompts.txt");
    await writeFile(prompts, "a red house\n\n");
    const many = await halfstepHere(
      "animate",
      "a cat",
      "--prompts",
      prompts,
      "--count",
      "2",
      "--seed",
      "3",
      ...size,
      "-o",
      out,
    );
    expect(many.code, many.stderr).toBe(0);
    const files = [1, 2, 3, 4].map((i) => join(folder, `clip-${i}.gif`));
    const lines = many.stdout.trim().split("\n");
    expect(lines.slice(0, 4)).toEqual([
      `${files[0]}  seed 3  a cat`,
      `${files[1]}  seed 4  a cat`,
      `${files[2]}  seed 3  a red house`,
      `${files[3]}  seed 4  a red house`,
    ]);
    expect(lines[4]).toMatch(/^4 videos \(.* s\)$/);
    const alone = join(folder, "alone.gif");
    const one = await halfstepHere("animate", "a red house", "--seed", "4", ...size, "-o", alone, "--json");
    const { videos, seeds, prompt } = JSON.parse(one.stdout);
    expect({ seeds, prompt }).toEqual({ seeds: [4], prompt: "a red house" });
    expect(videos).toEqual([{ prompt: "a red house", seed: 4, files: [alone], frames: 2 }]);
    const pixels = (file: string) => sharp(file, { animated: true }).raw().toBuffer();
    expect(await pixels(files[3]!)).toEqual(await pixels(alone));
    expect(await pixels(files[1]!)).not.toEqual(await pixels(alone));
    // Names that are taken are left out.
    const more = await halfstepHere("animate", "a cat", "--count", "2", ...size, "-o", out, "--json");
    expect(JSON.parse(more.stdout).files).toEqual([5, 6].map((i) => join(folder, `clip-${i}.gif`)));
  });

  it("takes what Stable Diffusion XL takes: diffusers' video, in PNG files", async () => {
    const xl = (await writeAnimateDiff("animatediff-sdxl")).path;
    const { call, io } = (await recordedVideos("animatediff-sdxl")).find(({ run }) => run === "crops")!;
    const out = join(folder, "xl/");
    const [prompt, second, negative] = [call.prompt as string, call.prompt_2!, call.negative_prompt as string];
    const texts = [prompt, "--prompt2", second, "--negative", negative, "--negative-prompt2", call.negative_prompt_2!];
    const sizes = [
      "--original-size",
      "40x30",
      "--crop",
      "3,2",
      "--target-size",
      "32x24",
      "--width",
      "24",
      "--height",
      "16",
    ];
    const more = ["--frames", "2", "--steps", "2", "--seed", "8", "--clip-skip", "1", "--guidance-rescale", "0.5"];
    const args = [...texts, ...sizes, ...more, "--model", xl, "--out", out, "--threads", "1"];
    const { code, stderr } = await halfstepHere("animate", ...args);
    expect(code, stderr).toBe(0);
    const { data } = io.get("output.frames")!;
    const names = ["0001.png", "0002.png"].map((name) => join(out, name));
    const pixels = (await Promise.all(names.map(readPicture))).flatMap((frame) => [...frame.data]);
    expect(pixels).toHaveLength(data.length);
    pixels.forEach((pixel, i) => {
      expect(Math.abs(pixel - 255 * Number(data[i]))).toBeLessThan(1);
    });
  });

  it("leaves nothing behind when it is interrupted, and ends with 130", async () => {
    const out = join(folder, "long.webp");
    const args = ["a cat", "--model", model, "--out", out, "--steps", "900", "--frames", "6"];
    const child = spawn(process.execPath, [...command, ...args], { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (part) => {
      said += part;
    });
    const timer = setTimeout(() => child.kill("SIGINT"), 3000);
    const code = await new Promise((resolve) => child.on("close", resolve));
    clearTimeout(timer);
    // Node itself ends it (null) if it comes before the command has begun.
    expect([130, null]).toContain(code);
    expect(said === "" || said.includes("Interrupted: nothing was written.")).toBe(true);
    expect((await readdir(folder)).filter((name) => name.startsWith("long"))).toEqual([]);
  });

  it.each<[string, string[], string]>([
    ["neither prompt nor picture", [], "animate needs a prompt, or --image"],
    ["both", ["a cat", "--image", "x.png"], "and not both"],
    ["another ending", ["a cat", "--out", "a.avi"], "a.avi: an animation's name ends in .gif, .webp or .mp4"],
    ["a folder that is not there", ["a cat", "--out", "none/a.gif"], "there is no folder none"],
    ["a picture that is not there", ["--image", "none.png"], "none.png: cannot be read as a picture"],
    ["what belongs to a prompt", ["--image", "x.png", "--adapter", "X"], "--adapter goes with a prompt"],
    ["what XL's texts have", ["--image", "x.png", "--prompt2", "X"], "--prompt2 goes with a prompt"],
    ["several on stdout", ["a cat", "--count", "2", "--out", "-"], "--out - is for one video; these are 2."],
    ["what belongs to a picture", ["a cat", "--motion", "3"], "--motion and --noise go with --image"],
    ["too many frames", ["a cat", "--frames", "2000"], "It must be a whole number from 1 to 1024."],
  ])("refuses %s", async (_, args, message) => {
    const { code, stderr } = await animate(...args);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });

  it("says that MP4 needs ffmpeg before it begins", async () => {
    const args = [...command, "a cat", "--model", model, "--out", join(folder, "a.mp4")];
    const stderr = await new Promise((resolve) => {
      const env = { ...process.env, PATH: folder };
      execFile(process.execPath, args, { cwd: root, env }, (_error, _stdout, text) => resolve(text));
    });
    expect(stderr).toContain("ToolError: ");
    expect(stderr).toContain("Install it (apt install ffmpeg");
  });
});

describe("reading a picture", () => {
  it("takes grey ones, and puts transparent ones on white", async () => {
    const grey = join(folder, "grey.png");
    await sharp(Uint8Array.of(10, 200), { raw: { width: 2, height: 1, channels: 1 } })
      .toColourspace("b-w")
      .png()
      .toFile(grey);
    expect([...(await readPicture(grey)).data]).toEqual([10, 10, 10, 200, 200, 200]);
    const clear = join(folder, "clear.png");
    await sharp(Uint8Array.of(0, 0, 0, 0, 255, 0, 0, 255), { raw: { width: 2, height: 1, channels: 4 } })
      .png()
      .toFile(clear);
    expect([...(await readPicture(clear)).data]).toEqual([255, 255, 255, 255, 0, 0]);
  });
});
