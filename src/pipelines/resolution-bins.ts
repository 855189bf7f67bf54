/**
 * The sizes that PixArt's models were trained on, for each aspect ratio (PixArt-alpha and PixArt-sigma, `ASPECT_RATIO_*` of their
 * published code and of diffusers), and what is made of a picture that was asked for in another size.
 */
import { type FloatTensor, floatTensor } from "../tensor.ts";

export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** Height over width as the table has it, height, width in pixels. */
type Row = readonly [ratio: number, height: number, width: number];

/** By the side of the latent that a model was made for: 256, 512, 1024 and 2048 pixels. */
const tables: ReadonlyMap<number, readonly Row[]> = new Map([
  [
    32,
    rows(`
      0.25 128x512, 0.28 128x464, 0.32 144x448, 0.33 144x432, 0.35 144x416, 0.4 160x400, 0.42 160x384,
      0.48 176x368, 0.5 176x352, 0.52 176x336, 0.57 192x336, 0.6 192x320, 0.68 208x304, 0.72 208x288,
      0.78 224x288, 0.82 224x272, 0.88 240x272, 0.94 240x256, 1.0 256x256, 1.07 256x240, 1.13 272x240,
      1.21 272x224, 1.29 288x224, 1.38 288x208, 1.46 304x208, 1.67 320x192, 1.75 336x192, 2.0 352x176,
      2.09 368x176, 2.4 384x160, 2.5 400x160, 3.0 432x144, 4.0 512x128
    `),
  ],
  [
    64,
    rows(`
      0.25 256x1024, 0.28 256x928, 0.32 288x896, 0.33 288x864, 0.35 288x832, 0.4 320x800, 0.42 320x768,
      0.48 352x736, 0.5 352x704, 0.52 352x672, 0.57 384x672, 0.6 384x640, 0.68 416x608, 0.72 416x576,
      0.78 448x576, 0.82 448x544, 0.88 480x544, 0.94 480x512, 1.0 512x512, 1.07 512x480, 1.13 544x480,
      1.21 544x448, 1.29 576x448, 1.38 576x416, 1.46 608x416, 1.67 640x384, 1.75 672x384, 2.0 704x352,
      2.09 736x352, 2.4 768x320, 2.5 800x320, 3.0 864x288, 4.0 1024x256
    `),
  ],
  [
    128,
    rows(`
      0.25 512x2048, 0.28 512x1856, 0.32 576x1792, 0.33 576x1728, 0.35 576x1664, 0.4 640x1600, 0.42 640x1536,
      0.48 704x1472, 0.5 704x1408, 0.52 704x1344, 0.57 768x1344, 0.6 768x1280, 0.68 832x1216, 0.72 832x1152,
      0.78 896x1152, 0.82 896x1088, 0.88 960x1088, 0.94 960x1024, 1.0 1024x1024, 1.07 1024x960, 1.13 1088x960,
      1.21 1088x896, 1.29 1152x896, 1.38 1152x832, 1.46 1216x832, 1.67 1280x768, 1.75 1344x768, 2.0 1408x704,
      2.09 1472x704, 2.4 1536x640, 2.5 1600x640, 3.0 1728x576, 4.0 2048x512
    `),
  ],
  [
    256,
    rows(`
      0.25 1024x4096, 0.26 1024x3968, 0.27 1024x3840, 0.28 1024x3712, 0.32 1152x3584, 0.33 1152x3456, 0.35 1152x3328,
      0.4 1280x3200, 0.42 1280x3072, 0.48 1408x2944, 0.5 1408x2816, 0.52 1408x2688, 0.57 1536x2688, 0.6 1536x2560,
      0.68 1664x2432, 0.72 1664x2304, 0.78 1792x2304, 0.82 1792x2176, 0.88 1920x2176, 0.94 1920x2048, 1.0 2048x2048,
      1.07 2048x1920, 1.13 2176x1920, 1.21 2176x1792, 1.29 2304x1792, 1.38 2304x1664, 1.46 2432x1664, 1.67 2560x1536,
      1.75 2688x1536, 2.0 2816x1408, 2.09 2944x1408, 2.4 3072x1280, 2.5 3200x1280, 2.89 3328x1152, 3.0 3456x1152,
      3.11 3584x1152, 3.62 3712x1024, 3.75 3840x1024, 3.88 3968x1024, 4.0 4096x1024
    `),
  ],
]);

/** "ratio height x width", one after the other. */
function rows(text: string): readonly Row[] {
  return text.split(",").map((row) => row.trim().split(/[ x]/).map(Number) as unknown as Row);
}

/**
 * The trained sizes of a PixArt model, or null. diffusers' PixArtAlphaPipeline has none of 2048 pixels: alpha was not trained on them.
 * Stable Diffusion is drawn at the size that is asked for.
 */
export function trainedSizes(pipeline: string, sampleSize: number): readonly Row[] | null {
  if (!pipeline.startsWith("PixArt")) return null;
  return pipeline === "PixArtAlphaPipeline" && sampleSize === 256 ? null : (tables.get(sampleSize) ?? null);
}

/** The size whose aspect ratio is next to the one asked for; of two as near, the first. */
export function nearestSize(table: readonly Row[], { width, height }: PictureSize): PictureSize {
  const off = ([ratio]: Row) => Math.abs(ratio - height / width);
  const [, high, wide] = table.reduce((best, row) => (off(row) < off(best) ? row : best));
  return { width: wide, height: high };
}

/**
 * Pictures [batch, channels, height, width] enlarged or reduced until they cover the size, and cut to it around the middle: as
 * diffusers does, bilinear and without smoothing.
 */
export function resizeAndCrop(pictures: FloatTensor, { width, height }: PictureSize): FloatTensor {
  const [batch, channels, high, wide] = pictures.shape as [number, number, number, number];
  if (high === height && wide === width) return pictures;
  const ratio = Math.max(height / high, width / wide);
  // Rounding may make a side a pixel too short to cover.
  const rows = cropped(high, Math.max(Math.trunc(high * ratio), height), height);
  const columns = cropped(wide, Math.max(Math.trunc(wide * ratio), width), width);
  const result = floatTensor([batch, channels, height, width]);
  for (let plane = 0; plane < batch * channels; plane++) {
    const from = pictures.data.subarray(plane * high * wide, (plane + 1) * high * wide);
    const to = result.data.subarray(plane * height * width, (plane + 1) * height * width);
    for (const [y, row] of rows.entries()) {
      for (const [x, column] of columns.entries()) {
        const mixed = (line: number) =>
          from[line * wide + column.low]! * (1 - column.share) + from[line * wide + column.high]! * column.share;
        to[y * width + x] = mixed(row.low) * (1 - row.share) + mixed(row.high) * row.share;
      }
    }
  }
  return result;
}

/** Which two old places each new one lies between, of the `kept` in the middle; PyTorch's interpolate without align_corners. */
function cropped(from: number, to: number, kept: number): { low: number; high: number; share: number }[] {
  const scale = Math.fround(from / to);
  const start = Math.floor((to - kept) / 2);
  return Array.from({ length: kept }, (_, i) => {
    const place = Math.max(Math.fround(scale * (start + i + 0.5) - 0.5), 0);
    const low = Math.min(Math.floor(place), from - 1);
    return { low, high: Math.min(low + 1, from - 1), share: place - low };
  });
}
