import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError, ToolError } from "../../src/errors.ts";
import { type Animation, animationFormat, frameDelays, toFrames, withGifComment } from "../../src/media/animation.ts";
import { checkDestination, writeAnimation } from "../../src/media/animation-node.ts";
import { type Picture, pngText } from "../../src/media/picture.ts";
import { floatTensor } from "../../src/tensor.ts";
import { temporaryFolder } from "../support/models.ts";

/** Few colours, a different one each frame, so that GIF's 256 are enough. */
const frame = (index: number, width = 12, height = 8): Picture => ({
  width,
  height,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) =>
    i % 3 === 0 ? 40 * index : i % 3 === 1 ? 20 * (Math.floor(i / 3) % width) : 255 - 30 * Math.floor(i / 3 / width),
  ),
});
const animation: Animation = { frames: [0, 1, 2, 3, 4].map((i) => frame(i)), fps: 8 };
const text = { prompt: "a café 🎉", seed: "7" };
const escaped = '{"prompt":"a caf\\u00e9 \\ud83c\\udf89","seed":"7"}';

/** The frames of a file, as another library's decoder sees them. */
async function decoded(path: string) {
  const { data, info } = await sharp(path, { animated: true })
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const { pages, delay, loop, exif } = await sharp(path, { animated: true }).metadata();
  return { data, width: info.width, height: info.height / pages!, pages, delay, loop, exif };
}

/** An ffmpeg that writes down what it is asked for. */
async function standIn(script: string): Promise<string> {
  const path = join(await temporaryFolder(), "ffmpeg");
  await writeFile(path, `#!${process.execPath}\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}
const RECORDING = `
const { writeFileSync } = require("node:fs");
if (process.argv[2] === "-version") process.exit(0);
let bytes = [];
process.stdin.on("data", (part) => bytes.push(part));
process.stdin.on("end", () => {
  const data = Buffer.concat(bytes);
  writeFileSync(process.argv.at(-1).replace("file:", ""), JSON.stringify({ args: process.argv.slice(2), length: data.length, last: [...data.subarray(-3)] }));
});`;

describe("names", () => {
  it.each([
    ["party.gif", "gif"],
    ["a/party.WEBP", "webp"],
    ["./party.mp4", "mp4"],
    ["frames/", "frames"],
    ["out/frames", "frames"],
    [".", "frames"],
    ["a.b/", "frames"],
    ["v1.2/frames", "frames"],
  ])("%s is %s", (name, format) => expect(animationFormat(name)).toBe(format));

  it.each(["party.png", "party.avi"])("%s is refused", (name) => {
    expect(() => animationFormat(name)).toThrow(ArgumentError);
    expect(() => animationFormat(name)).toThrow("ends in .gif, .webp or .mp4, or in / for a folder");
  });
});

describe("the frames of a video", () => {
  it("are taken out of [batch, 3, frames, height, width]", () => {
    const shape = [2, 3, 4, 1, 2];
    // -1 for the first frame of the first video up to 1: the value says which video and frame it is.
    const values = Float32Array.from({ length: 48 }, (_, i) => {
      const [video, f] = [Math.floor(i / 24), Math.floor(i / 2) % 4];
      return ((4 * video + f) / 7) * 2 - 1;
    });
    const videos = toFrames(floatTensor(shape, values));
    expect(videos.map((frames) => frames.map(({ data }) => [...new Set(data)]))).toEqual([
      [[0], [36], [73], [109]],
      [[146], [182], [219], [255]],
    ]);
    expect(() => toFrames(floatTensor([1, 3, 2, 2]))).toThrow(ShapeError);
  });

  it("last as long in all as they should, whatever a format can count", () => {
    expect(frameDelays(4, 8)).toEqual([125, 125, 125, 125]);
    expect(frameDelays(16, 8, 10).reduce((a, b) => a + b)).toBe(2000);
    expect(new Set(frameDelays(16, 8, 10))).toEqual(new Set([120, 130]));
    expect(frameDelays(30, 30, 10).reduce((a, b) => a + b)).toBe(1000);
  });
});

describe("writing", () => {
  it.each(["gif", "webp"] as const)("%s: every frame, how long it stays, and what it is of", async (format) => {
    const out = join(await temporaryFolder(), `party.${format}`);
    expect(await writeAnimation(out, animation, { text })).toEqual([out]);
    const { data, exif, ...found } = await decoded(out);
    const delay = format === "gif" ? [130, 120, 130, 120, 130] : [125, 125, 125, 125, 125];
    expect(found).toEqual({ width: 12, height: 8, pages: 5, delay, loop: 0 });
    const difference = animation.frames.flatMap((picture, i) =>
      [...picture.data].map((value, j) => Math.abs(value - data[i * picture.data.length + j]!)),
    );
    // GIF has as many colours as this needs, but for dithering; WebP's are lossy and of half the resolution.
    expect(difference.reduce((a, b) => a + b) / difference.length).toBeLessThan(format === "gif" ? 4 : 12);
    const bytes = await readFile(out);
    expect((format === "gif" ? bytes : exif!).toString("latin1")).toContain(escaped);
    expect(await readdir(join(out, ".."))).toEqual([`party.${format}`]);
  });

  it("a folder of PNG files with numbers, new or empty", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "empty"));
    for (const name of ["frames/", "empty"]) {
      const out = join(folder, name);
      const files = await writeAnimation(out, animation, { text });
      expect(files.map((file) => file.slice(folder.length))).toEqual(
        [1, 2, 3, 4, 5].map((i) => `/${name.replace("/", "")}/000${i}.png`),
      );
      const { data } = await decoded(files[3]!);
      expect([...data]).toEqual([...animation.frames[3]!.data]);
      expect(pngText(await readFile(files[0]!))).toMatchObject({ seed: "7" });
      await expect(writeAnimation(out, animation)).rejects.toThrow("frames need a folder of their own");
    }
    expect((await readdir(folder)).sort()).toEqual(["empty", "frames"]);
  });

  it("MP4: hands ffmpeg all frames, their size and rate, and says what they are of", async () => {
    const out = join(await temporaryFolder(), "party.mp4");
    await writeAnimation(out, animation, { text, ffmpeg: await standIn(RECORDING) });
    const { args, length, last } = JSON.parse(await readFile(out, "utf8"));
    expect(length).toBe(5 * 3 * 12 * 8);
    expect(last).toEqual([...animation.frames[4]!.data.subarray(-3)]);
    const line = args.join(" ");
    for (const part of ["-pix_fmt rgb24 -s 12x8 -r 8 -i -", "-c:v libx264", `comment=${JSON.stringify(text)}`]) {
      expect(line).toContain(part);
    }
  });
});

describe("names that look like something else", () => {
  it.each(["-x.mp4", "http:x.mp4", "-y -i a.mp4", "a%03d.mp4"])("%s reaches ffmpeg as a file", async (name) => {
    const folder = await temporaryFolder();
    const before = process.cwd();
    const ffmpeg = await standIn(RECORDING);
    process.chdir(folder);
    try {
      await writeAnimation(name, animation, { ffmpeg });
    } finally {
      process.chdir(before);
    }
    expect(await readdir(folder)).toEqual([name]);
    const { args } = JSON.parse(await readFile(join(folder, name), "utf8"));
    expect(args.at(-1)).toMatch(/^file:\/.*\.halfstep-[\w-]+\.tmp$/);
  });

  it("a prompt of a megabyte is shortened for MP4, whose comment is an argument", async () => {
    const out = join(await temporaryFolder(), "a.mp4");
    const long = { prompt: "é".repeat(2 ** 20), seed: "7" };
    await writeAnimation(out, animation, { text: long, ffmpeg: await standIn(RECORDING) });
    const comment = JSON.parse(await readFile(out, "utf8")).args.find((arg: string) => arg.startsWith("comment="));
    expect(comment.length).toBeLessThan(21_000);
    expect(JSON.parse(comment.slice("comment=".length))).toEqual({
      prompt: expect.stringMatching(/^é+\.\.\.$/),
      seed: "7",
    });
  });
});

describe("nothing half-written", () => {
  it("where ffmpeg is missing: said before anything is made, with what to do", async () => {
    const folder = await temporaryFolder();
    const error = await checkDestination(join(folder, "a.mp4"), { ffmpeg: join(folder, "none") }).catch(
      (thrown) => thrown,
    );
    expect(error).toBeInstanceOf(ToolError);
    expect(error.message).toMatch(/MP4 needs ffmpeg, .*apt install ffmpeg.*or ask for a \.gif, a \.webp or a folder/s);
    expect(await readdir(folder)).toEqual([]);
  });

  it("where ffmpeg fails: its own words, and no file", async () => {
    const folder = await temporaryFolder();
    const ffmpeg = await standIn(`
      if (process.argv[2] === "-version") process.exit(0);
      require("node:fs").writeFileSync(process.argv.at(-1).replace("file:", ""), "half");
      process.stderr.write("Unknown encoder 'libx264'\\n", () => process.exit(8));`);
    const error = await writeAnimation(join(folder, "a.mp4"), animation, { ffmpeg }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ToolError);
    expect(error.message).toBe("ffmpeg failed (8): Unknown encoder 'libx264'.");
    expect(await readdir(folder)).toEqual([]);
  });

  it("when it is aborted, before or while it is written", async () => {
    const folder = await temporaryFolder();
    const reason = new Error("enough");
    for (const name of ["a.gif", "a.webp", "frames/"]) {
      const written = writeAnimation(join(folder, name), animation, { signal: AbortSignal.abort(reason) });
      await expect(written).rejects.toBe(reason);
    }
    const abort = new AbortController();
    const ffmpeg = await standIn(`
      if (process.argv[2] === "-version") process.exit(0);
      require("node:fs").writeFileSync(process.argv.at(-1).replace("file:", ""), "half");
      setInterval(() => {}, 1000);`);
    const written = writeAnimation(join(folder, "a.mp4"), animation, { ffmpeg, signal: abort.signal });
    setTimeout(() => abort.abort(reason), 300);
    await expect(written).rejects.toBe(reason);
    expect(await readdir(folder)).toEqual([]);
  });

  it("over a file that is there already: it stays until the new one is whole", async () => {
    const folder = await temporaryFolder();
    const out = join(folder, "a.gif");
    await writeFile(out, "old");
    await expect(writeAnimation(out, { ...animation, fps: 0 })).rejects.toThrow(ArgumentError);
    expect(await readFile(out, "utf8")).toBe("old");
    await writeAnimation(out, animation);
    expect((await decoded(out)).pages).toBe(5);
    expect(await readdir(folder)).toEqual(["a.gif"]);
  });
});

it.each<[string, Partial<Animation>, string]>([
  ["a.gif", { frames: [] }, "at least one frame"],
  ["a.gif", { frames: [frame(0), frame(1, 13)] }, "12x8 and 13x8"],
  ["a.gif", { fps: 60 }, "the frames a second must be a number from 0.01 to 50 for gif, not 60."],
  ["a.webp", { fps: Number.NaN }, "not NaN"],
  ["none/a.gif", {}, "there is no folder"],
])("%s with %o is refused", async (name, change, message) => {
  const written = writeAnimation(join(await temporaryFolder(), name), { ...animation, ...change });
  await expect(written).rejects.toThrow(ArgumentError);
  await expect(written).rejects.toThrow(message);
});

it("a GIF's comment is cut into blocks of 255 bytes, and goes after what says that it repeats", () => {
  const start = [...new TextEncoder().encode("GIF89a"), 1, 0, 1, 0, 0x80, 0, 0, 9, 9, 9, 8, 8, 8];
  const repeats = [0x21, 0xff, 2, 5, 5, 1, 4, 0];
  const frames = [0x2c, 7, 7, 0x3b];
  const gif = withGifComment(Uint8Array.of(...start, ...repeats, ...frames), "x".repeat(300));
  const [many, few] = [255, 45].map((length) => [length, ...new Array<number>(length).fill(0x78)]);
  expect([...gif]).toEqual([...start, ...repeats, 0x21, 0xfe, ...many!, ...few!, 0, ...frames]);
  expect(() => withGifComment(Uint8Array.of(1), "x")).toThrow(ArgumentError);
});
