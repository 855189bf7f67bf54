import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { ArgumentError, StateError } from "../../src/errors.ts";
import { encodePng, pngText } from "../../src/media/picture.ts";
import { readPicture } from "../../src/media/picture-node.ts";
import { RawImage } from "../../src/media/raw-image.ts";
import { temporaryFolder } from "../support/models.ts";

const width = 16;
const height = 8;
const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 37 + (i % 3) * 80) % 256);
const image = new RawImage({ width, height, data });

/** Pixels as libvips decodes them. */
const decoded = async (bytes: Uint8Array) => new Uint8Array(await sharp(bytes).removeAlpha().raw().toBuffer());

describe("encodePng", () => {
  it("can be given to Response and Blob as it is", async () => {
    // Both lines are also a test of the types: npm run check.
    const response = new Response(encodePng(image), { headers: { "Content-Type": "image/png" } });
    const blob = new Blob([encodePng(image)]);
    expect(await decoded(new Uint8Array(await response.arrayBuffer()))).toEqual(data);
    expect(await decoded(new Uint8Array(await blob.arrayBuffer()))).toEqual(data);
  });
});

describe("RawImage", () => {
  it("is ImageData's pixels with an opaque alpha channel", () => {
    const pixels = image.toImageData();
    expect({ width: pixels.width, height: pixels.height }).toEqual({ width, height });
    expect(pixels.data).toHaveLength(4 * width * height);
    for (let i = 0; i < width * height; i++) {
      expect([...pixels.data.subarray(4 * i, 4 * i + 4)]).toEqual([...data.subarray(3 * i, 3 * i + 3), 255]);
    }
  });

  it("becomes a Blob of a file", async () => {
    const png = await image.toBlob();
    expect(png.type).toBe("image/png");
    expect(await decoded(new Uint8Array(await png.arrayBuffer()))).toEqual(data);
    const webp = new Uint8Array(await (await image.toBlob("image/webp")).arrayBuffer());
    expect((await sharp(webp).metadata()).format).toBe("webp");
  });

  it("is saved in the format that the name says, with texts", async () => {
    const folder = await temporaryFolder();
    const file = await image.save(join(folder, "a.png"), { text: { prompt: "a cat" } });
    expect(file).toBe(join(folder, "a.png"));
    const bytes = await readFile(file);
    expect(pngText(bytes)).toEqual({ prompt: "a cat" });
    expect(await decoded(bytes)).toEqual(data);
    for (const [name, format] of [
      ["b.jpg", "jpeg"],
      ["c.webp", "webp"],
    ] as const) {
      const path = await image.save(join(folder, name));
      expect((await sharp(await readFile(path)).metadata()).format).toBe(format);
      expect(await readPicture(path)).toMatchObject({ width, height });
    }
  });

  it("replaces a file of that name unless told not to, and refuses names that cannot be", async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, "a.png"), "old");
    expect(await image.save(join(folder, "a.png"), { overwrite: false })).toBe(join(folder, "a-2.png"));
    expect(await readFile(join(folder, "a.png"), "utf8")).toBe("old");
    await image.save(join(folder, "a.png"));
    expect(await decoded(await readFile(join(folder, "a.png")))).toEqual(data);
    await expect(image.save(join(folder, "a.bmp"))).rejects.toThrow(ArgumentError);
    await expect(image.save(join(folder, "none", "a.png"))).rejects.toThrow("there is no folder");
    await expect(image.save(join(folder, "a.png"), { txt: {} } as object)).rejects.toThrow('Did you mean "text"?');
  });

  it("says that Node has no canvases", () => {
    expect(() => image.toCanvas()).toThrow(StateError);
  });
});
