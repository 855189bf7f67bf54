import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Augmentation,
  drawAugmentation,
  drawCaption,
  imageSize,
  loadEmojiData,
  writeImage,
} from "../../training/data.ts";
import { pick, seededRandom } from "../../training/random.ts";

const pixels = imageSize * imageSize;
const none: Augmentation = { flip: false, turns: 0, shiftX: 0, shiftY: 0, hue: 0, saturation: 1, ink: 1 };

/** One white picture with one coloured pixel at (x, y). */
function dot(x: number, y: number, [r, g, b]: [number, number, number]) {
  const images = new Uint8Array(pixels * 3).fill(255);
  images.set([r, g, b], 3 * (y * imageSize + x));
  return { images, count: 1 };
}

function augmented(picture: ReturnType<typeof dot>, change: Partial<Augmentation>): Float32Array {
  const out = new Float32Array(3 * pixels);
  writeImage(picture, 0, out, { ...none, ...change });
  return out;
}

/** Where the only pixel that is not white came to, as [x, y]; null if it left the picture. */
function placeOf(chw: Float32Array): [number, number] | null {
  const found = chw.subarray(0, pixels).findIndex((value) => value < 0.99);
  return found < 0 ? null : [found % imageSize, Math.floor(found / imageSize)];
}

describe("pictures for training", () => {
  it("come as channels first, in [-1, 1]", () => {
    const out = new Float32Array(3 * pixels);
    writeImage(dot(2, 1, [0, 255, 51]), 0, out);
    const at = imageSize + 2;
    expect([out[at], out[pixels + at], out[2 * pixels + at]]).toEqual([-1, 1, expect.closeTo(-0.6)]);
    expect(out[0]).toBe(1);
  });

  it("are the same with the augmentation that changes nothing", () => {
    const picture = { images: Uint8Array.from({ length: 3 * pixels }, (_, i) => (i * 37) % 256), count: 1 };
    const plain = new Float32Array(3 * pixels);
    writeImage(picture, 0, plain);
    const same = augmented(picture, {});
    const largest = plain.reduce((worst, value, i) => Math.max(worst, Math.abs(value - same[i]!)), 0);
    expect(largest).toBeLessThan(1e-6);
  });

  it("move in their full size by as many of its pixels", () => {
    const images = new Uint8Array(256 * 256 * 3).fill(255);
    images.set([0, 0, 0], 3 * (20 * 256 + 12));
    const out = new Float32Array(3 * 256 * 256);
    writeImage({ images, count: 1 }, 0, out, { ...none, flip: true, shiftX: 8, shiftY: -4 }, 256);
    const found = out.findIndex((value) => value < 0.99);
    // Mirrored in place, then moved.
    expect([found % 256, Math.floor(found / 256)]).toEqual([255 - 12 + 8, 16]);
  });

  it("move by whole pixels", () => {
    const black = dot(3, 5, [0, 0, 0]);
    expect(placeOf(augmented(black, { shiftX: 2, shiftY: -4 }))).toEqual([5, 1]);
    expect(placeOf(augmented(black, { shiftX: -4 }))).toBeNull();
    expect(placeOf(augmented(black, { flip: true }))).toEqual([60, 5]);
    const turned = [1, 2, 3].map((turns) => placeOf(augmented(black, { turns })));
    expect(new Set(turned.map(String))).toEqual(new Set(["58,3", "60,58", "5,60"]));
  });

  it("turn red to green and to blue in thirds of a hue circle", () => {
    const at = 7 * imageSize + 7;
    const rgb = (hue: number) => {
      const out = augmented(dot(7, 7, [255, 0, 0]), { hue });
      return [0, 1, 2].map((c) => Math.round(out[c * pixels + at]!));
    };
    const turned = [rgb((2 * Math.PI) / 3), rgb((-2 * Math.PI) / 3)];
    expect(turned.map(String).sort()).toEqual(["-1,-1,1", "-1,1,-1"]);
  });

  it("stay in range, and white stays white, whatever the augmentation", () => {
    const colour = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255));
    fc.assert(
      fc.property(fc.integer(), colour, (seed, rgb) => {
        const out = augmented(dot(32, 32, rgb), drawAugmentation(seededRandom(seed)));
        const coloured = out.filter((value) => value !== 1).length;
        return coloured <= 3 && out.every((value) => value >= -1 && value <= 1);
      }),
      { numRuns: 30 },
    );
  });

  it("refuse a wrong buffer or number", () => {
    expect(() => writeImage(dot(0, 0, [0, 0, 0]), 1, new Float32Array(3 * pixels))).toThrow("picture 1 of 1");
    expect(() => writeImage(dot(0, 0, [0, 0, 0]), 0, new Float32Array(3))).toThrow("the buffer has 3");
  });
});

describe("drawing", () => {
  it("takes captions by weight", () => {
    const captions = [
      { text: "often", weight: 3 },
      { text: "seldom", weight: 1 },
      { text: "never", weight: 0 },
    ];
    const random = seededRandom(3);
    const drawn = Array.from({ length: 4000 }, () => drawCaption({ captions }, random));
    expect(drawn.filter((text) => text === "often").length / 4000).toBeCloseTo(0.75, 1);
    expect(drawn).not.toContain("never");
  });

  it("picks different items, all of them if asked for more", () => {
    expect(new Set(pick([1, 2, 3, 4], 3, seededRandom(1))).size).toBe(3);
    expect(pick([1, 2], 5, seededRandom(1)).sort()).toEqual([1, 2]);
  });
});

describe("a prepared folder", () => {
  let folder: string;
  const entry = (rung: number) => ({
    hexcode: "",
    emoji: "",
    label: `rung ${rung}`,
    group: "",
    subgroup: "",
    rung,
    captions: [],
  });
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "halfstep-data-"));
    await writeFile(path.join(folder, "captions.json"), JSON.stringify([entry(2), entry(1)]));
    const images = new Uint8Array(2 * pixels * 3).fill(10, pixels * 3);
    await writeFile(path.join(folder, "images.u8"), images);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("is read whole, or up to a rung with its own pictures", async () => {
    expect((await loadEmojiData(folder)).count).toBe(2);
    const first = await loadEmojiData(folder, { rung: 1 });
    expect(first).toMatchObject({ count: 1, entries: [{ label: "rung 1" }] });
    expect([first.images.length, first.images[0]]).toEqual([pixels * 3, 10]);
  });

  it("says so when pictures and captions do not belong together", async () => {
    await writeFile(path.join(folder, "images.u8"), new Uint8Array(5));
    await expect(loadEmojiData(folder)).rejects.toThrow(/images\.u8 has 5 bytes, but the 2 entries/);
  });
});
