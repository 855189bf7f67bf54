import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import sharp from "sharp";
import { beforeAll, describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { decodeBmp } from "../../src/media/bmp.ts";
import { type Picture, pngText } from "../../src/media/picture.ts";
import { describedIn, encodePicture, pictureFormat, readPicture } from "../../src/media/picture-node.ts";
import { root } from "../support/cli.ts";
import { temporaryFolder } from "../support/models.ts";

const fixtures = join(root, "test/fixtures/picture-formats");
const right = JSON.parse(readFileSync(join(fixtures, "right.json"), "utf8")) as Record<
  string,
  { size: [number, number]; "sha256 of RGB, first 16": string }
>;

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
});

describe("reading a picture", () => {
  it.each(Object.entries(right))("%s gives the values that Pillow gives", async (name, expected) => {
    const { width, height, data } = await readPicture(join(fixtures, name));
    expect([width, height]).toEqual(expected.size);
    expect(createHash("sha256").update(data).digest("hex").slice(0, 16)).toBe(expected["sha256 of RGB, first 16"]);
  });

  it("takes a name for a name, also where libvips would read options in it", async () => {
    const file = join(folder, "a.png[page=3]");
    await writeFile(file, await readFile(join(fixtures, "rgba.png")));
    expect((await readPicture(file)).width).toBe(32);
  });

  it.each([
    ["none.png", "no such file"],
    ["a-folder", "no ordinary file"],
    ["/dev/zero", "no ordinary file"],
    ["text.png", "unsupported image format"],
    ["cut.png", "cannot be read as a picture"],
    ["cut.bmp", "the bitmap is cut off"],
    ["large.bmp", "at most 100000000 are read"],
  ])("%s is refused in one line with the name", async (name, reason) => {
    await mkdir(join(folder, "a-folder"), { recursive: true });
    await writeFile(join(folder, "text.png"), "this is no picture");
    await writeFile(join(folder, "cut.png"), (await readFile(join(fixtures, "rgb16.png"))).subarray(0, 200));
    const bitmap = await readFile(join(fixtures, "rgb.bmp"));
    await writeFile(join(folder, "cut.bmp"), bitmap.subarray(0, 2000));
    bitmap.writeInt32LE(60_000, 18);
    bitmap.writeInt32LE(60_000, 22);
    await writeFile(join(folder, "large.bmp"), bitmap);
    const path = name.startsWith("/") ? name : join(folder, name);
    const error = await readPicture(path).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain(`${path}: cannot be read as a picture: `);
    expect(error.message).toContain(reason);
  });

  it("bitmaps with any bytes changed are read or refused, and nothing else", () => {
    const names = Object.keys(right).filter((name) => name.endsWith(".bmp"));
    const files = names.map((name) => readFileSync(join(fixtures, name)));
    const change = fc.tuple(fc.nat(100), fc.nat(255));
    fc.assert(
      fc.property(fc.constantFrom(...files), fc.array(change, { maxLength: 6 }), fc.nat(400), (file, changes, cut) => {
        const bytes = Uint8Array.from(file.subarray(0, file.length - (cut % file.length)));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          const { width, height, rgba } = decodeBmp(bytes, 10_000);
          return rgba.length === 4 * width * height;
        } catch (error) {
          return error instanceof ArgumentError;
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("writing a picture", () => {
  const picture: Picture = {
    width: 40,
    height: 24,
    data: Uint8Array.from({ length: 3 * 40 * 24 }, (_, i) => 40 + 5 * (Math.floor(i / 3) % 40) + 10 * (i % 3)),
  };
  const text = { prompt: "a café 🎉", seed: "7" };

  it.each([
    ["a.png", "png"],
    ["a.JPG", "jpeg"],
    ["b/a.jpeg", "jpeg"],
    ["a.webp", "webp"],
  ] as const)("%s is %s: the picture, with its texts", async (name, format) => {
    expect(pictureFormat(name)).toBe(format);
    const bytes = await encodePicture(picture, format, text);
    const decoded = sharp(bytes);
    const metadata = await decoded.metadata();
    expect(metadata).toMatchObject({ format, width: 40, height: 24 });
    const data = await decoded.removeAlpha().raw().toBuffer();
    const worst = Math.max(...data.map((value, i) => Math.abs(value - picture.data[i]!)));
    expect(worst).toBeLessThanOrEqual(format === "png" ? 0 : 12);
    const escaped = '"prompt":"a caf\\u00e9 \\ud83c\\udf89","seed":"7"';
    if (format === "png") expect(pngText(bytes)).toMatchObject({ seed: "7" });
    else expect(metadata.exif!.toString("latin1")).toContain(escaped);
  });

  it.each(["a", "a.gif", "a.png/b", ".png/", "a.jpgx"])("%s is refused", (name) => {
    expect(() => pictureFormat(name)).toThrow("must end in .png, .jpg or .webp");
  });

  it("a size that one format does not have is another's", async () => {
    const wide: Picture = { width: 16_384, height: 1, data: new Uint8Array(3 * 16_384) };
    await expect(encodePicture(wide, "webp")).rejects.toThrow("WebP has at most 16383 pixels a side");
    expect((await sharp(await encodePicture(wide, "jpeg")).metadata()).width).toBe(16_384);
  });

  it.each(["jpeg", "webp"] as const)("a prompt of a megabyte does not keep %s from being written", async (format) => {
    const bytes = await encodePicture(picture, format, { prompt: "é".repeat(2 ** 20), seed: "123" });
    const exif = (await sharp(bytes).metadata()).exif!.toString("latin1");
    expect(exif).toContain('..."');
    expect(exif).toContain('"seed":"123"');
    expect(exif.length).toBeLessThan(65_536);
  });

  it("texts are cut only where they have to be", () => {
    expect(describedIn({ a: "x".repeat(50) }, 100)).toBe(JSON.stringify({ a: "x".repeat(50) }));
    expect(describedIn({ a: "x".repeat(500), b: "y" }, 100).length).toBeLessThanOrEqual(100);
  });
});
