/**
 * Images in overlapping tiles, for networks that cannot be sliced exactly: an autoencoder's group norms and attention see the
 * whole image. Overlapping tiles are averaged with weights that fall to zero towards a tile's edge, so the result has no seams:
 * it is continuous if the tiles are.
 */
import { ArgumentError } from "../errors.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";

/** Tiles along one axis, in elements of the input. */
export interface TileAxis {
  readonly length: number;
  readonly tile: number;
  readonly starts: readonly number[];
}

/** The fewest tiles that overlap by at least `overlap`, spread evenly from edge to edge. Throws ArgumentError. */
export function tileAxis(length: number, tile: number, overlap: number): TileAxis {
  if (tile >= length) return { length, tile: length, starts: [0] };
  if (!(Number.isInteger(tile) && Number.isInteger(overlap) && overlap >= 0 && 2 * overlap <= tile && tile > 0)) {
    throw new ArgumentError(`Tiles of ${tile} cannot overlap by ${overlap}: at most by half, in whole numbers.`);
  }
  const count = Math.ceil((length - overlap) / (tile - overlap));
  const starts = Array.from({ length: count }, (_, i) => Math.round((i * (length - tile)) / (count - 1)));
  return { length, tile, starts };
}

/** The weight of each element of each tile, enlarged `factor` times. At every place the weights of all tiles sum to 1. */
export function tileWeights({ length, tile, starts }: TileAxis, factor = 1): Float64Array[] {
  const [size, all] = [tile * factor, length * factor];
  const total = new Float64Array(all);
  const weights = starts.map((start, i) => {
    const ramp = new Float64Array(size);
    const before = i === 0 ? 0 : (starts[i - 1]! + tile - start) * factor;
    const after = i === starts.length - 1 ? 0 : (start + tile - starts[i + 1]!) * factor;
    for (let at = 0; at < size; at++) {
      const rising = before > 0 ? (at + 0.5) / before : 1;
      const falling = after > 0 ? (size - at - 0.5) / after : 1;
      ramp[at] = Math.min(1, rising, falling);
      total[start * factor + at]! += ramp[at]!;
    }
    return ramp;
  });
  for (const [i, ramp] of weights.entries()) {
    for (let at = 0; at < size; at++) ramp[at]! /= total[starts[i]! * factor + at]!;
  }
  return weights;
}

/**
 * Runs `code` on tiles of `picture` [batch, channels, cell height, cell width] and blends the results, [batch, channels, factor height,
 * factor width]; height, width, `tile` and `overlap` are in elements of the latent, of which an encoder's picture has `cell` pixels on
 * each side. If one tile covers everything, the result is exactly that of `code`.
 */
export async function inTiles(
  picture: FloatTensor,
  tile: { height: number; width: number },
  overlap: number,
  code: (tile: FloatTensor) => Promise<FloatTensor>,
  cell = 1,
): Promise<FloatTensor> {
  const [batch, channels, pixelHeight, pixelWidth] = picture.shape as [number, number, number, number];
  const [height, width] = [pixelHeight / cell, pixelWidth / cell];
  const rows = tileAxis(height, tile.height, overlap);
  const columns = tileAxis(width, tile.width, overlap);
  if (rows.starts.length === 1 && columns.starts.length === 1) return code(picture);
  let result: FloatTensor | null = null;
  for (const [i, top] of rows.starts.entries()) {
    for (const [j, left] of columns.starts.entries()) {
      const size = { height: cell * rows.tile, width: cell * columns.tile };
      const part = floatTensor([batch, channels, size.height, size.width]);
      for (let line = 0; line < batch * channels * size.height; line++) {
        const [plane, y] = [Math.floor(line / size.height), line % size.height];
        const from = (plane * pixelHeight + cell * top + y) * pixelWidth + cell * left;
        part.data.set(picture.data.subarray(from, from + size.width), line * size.width);
      }
      const decoded = await code(part);
      const [, out, tall, wide] = decoded.shape as [number, number, number, number];
      const factor = tall / rows.tile;
      result ??= floatTensor([batch, out, height * factor, width * factor]);
      const [down, across] = [tileWeights(rows, factor)[i]!, tileWeights(columns, factor)[j]!];
      for (let line = 0; line < batch * out * tall; line++) {
        const [plane, y] = [Math.floor(line / tall), line % tall];
        const to = (plane * height * factor + top * factor + y) * width * factor + left * factor;
        for (let x = 0; x < wide; x++) {
          result.data[to + x]! += down[y]! * across[x]! * decoded.data[line * wide + x]!;
        }
      }
    }
  }
  return result!;
}
