/** What the judge is trained on: views of the pictures that differ in everything but what they show, and captions. */
import { type Augmentation, drawAugmentation, type EmojiData, type EmojiEntry, imageSize, writeImage } from "./data.ts";
import { pick, type Random, seedOf } from "./random.ts";

const pixels = imageSize * imageSize;

export interface View {
  colours: Augmentation;
  /** The part of the picture that is shown, in pixels of it; outside the picture there is white. */
  left: number;
  top: number;
  side: number;
  /** Standard deviation of the blur in pixels; 0 for none. */
  blur: number;
  /** Standard deviation of the noise, of pixels that span [-1, 1]. */
  noise: number;
}

/** Groups whose pictures mean the same mirrored: no letters, arrows or hands with a side. */
const mirrored = new Set(["smileys-emotion", "animals-nature", "food-drink"]);

/** Captions name colours, so hues move little. */
const range = { flip: true, turns: false, shift: 0, hue: 0.6, saturation: 0.3, ink: 0.2 };

/** A view of a picture of this group; each change is left out now and then, so that plain pictures are known too. */
export function drawView(random: Random, group: string): View {
  const often = () => random() < 0.7;
  const side = often() ? imageSize * (0.72 + 0.4 * random()) : imageSize;
  const room = imageSize - side;
  const place = () => room * random() + (often() ? 4 * (random() - 0.5) : 0);
  return {
    colours: drawAugmentation(random, { ...range, flip: mirrored.has(group) }),
    left: place(),
    top: place(),
    side,
    blur: often() ? 1.3 * random() : 0,
    noise: often() ? 0.12 * random() ** 2 : 0,
  };
}

const straight = new Float32Array(3 * pixels);
const moved = new Float32Array(3 * pixels);

/** Writes a view of picture `index` to `out`, 3 x 64 x 64 values in [-1, 1]. */
export function writeView(data: EmojiData, index: number, out: Float32Array, view: View, random: Random): void {
  writeImage(data, index, straight, view.colours);
  crop(straight, moved, view);
  if (view.blur > 0.2) blur(moved, out, view.blur);
  else out.set(moved);
  if (view.noise === 0) return;
  for (let i = 0; i < out.length; i++) {
    // The sum of three uniform numbers is normal enough for noise, without a logarithm a pixel.
    out[i] = Math.min(1, Math.max(-1, out[i]! + view.noise * 2 * (random() + random() + random() - 1.5)));
  }
}

/** Bilinear, white outside. */
function crop(from: Float32Array, to: Float32Array, { left, top, side }: View): void {
  const step = side / imageSize;
  const at = (base: number, x: number, y: number) =>
    x < 0 || y < 0 || x >= imageSize || y >= imageSize ? 1 : from[base + y * imageSize + x]!;
  for (let y = 0; y < imageSize; y++) {
    const v = top + (y + 0.5) * step - 0.5;
    const y0 = Math.floor(v);
    for (let x = 0; x < imageSize; x++) {
      const u = left + (x + 0.5) * step - 0.5;
      const x0 = Math.floor(u);
      const [a, b] = [u - x0, v - y0];
      for (let c = 0; c < 3; c++) {
        const base = c * pixels;
        const upper = at(base, x0, y0) * (1 - a) + at(base, x0 + 1, y0) * a;
        const lower = at(base, x0, y0 + 1) * (1 - a) + at(base, x0 + 1, y0 + 1) * a;
        to[base + y * imageSize + x] = upper * (1 - b) + lower * b;
      }
    }
  }
}

const half = new Float32Array(3 * pixels);

/** Gaussian, cut off at three pixels: rows, then columns; the border repeats. */
function blur(from: Float32Array, to: Float32Array, deviation: number): void {
  const kernel = [-3, -2, -1, 0, 1, 2, 3].map((d) => Math.exp(-(d * d) / (2 * deviation * deviation)));
  const total = kernel.reduce((a, b) => a + b, 0);
  const weights = kernel.map((value) => value / total);
  const pass = (source: Float32Array, target: Float32Array, stride: number, across: number) => {
    for (let c = 0; c < 3; c++) {
      for (let line = 0; line < imageSize; line++) {
        const base = c * pixels + line * across;
        for (let i = 0; i < imageSize; i++) {
          let sum = 0;
          for (let d = 0; d < 7; d++) {
            const place = Math.min(imageSize - 1, Math.max(0, i + d - 3));
            sum += weights[d]! * source[base + place * stride]!;
          }
          target[base + i * stride] = sum;
        }
      }
    }
  };
  pass(from, half, 1, imageSize);
  pass(half, to, imageSize, 1);
}

/**
 * One in twelve captions, never shown in training, to see whether the words were learnt or the captions by heart. The
 * first two of an emoji, which have most of the weight, are always shown.
 */
export function isHeldOut({ captions }: Pick<EmojiEntry, "captions">, text: string): boolean {
  return seedOf(text) % 12 === 0 && captions.findIndex((caption) => caption.text === text) >= 2;
}

/** The emoji without the captions that are held out of any of them. */
export function trainingEntries(entries: readonly EmojiEntry[]): EmojiEntry[] {
  const heldOut = new Set(entries.flatMap((entry) => heldOutCaptions(entry)));
  return entries.map((entry) => ({ ...entry, captions: entry.captions.filter(({ text }) => !heldOut.has(text)) }));
}

export function heldOutCaptions(entry: EmojiEntry): string[] {
  return entry.captions.map(({ text }) => text).filter((text) => isHeldOut(entry, text));
}

/** `count` different pictures. */
export function drawIndices(total: number, count: number, random: Random): number[] {
  return pick(
    Array.from({ length: total }, (_, i) => i),
    count,
    random,
  );
}
