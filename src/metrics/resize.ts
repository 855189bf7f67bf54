import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";

/** A picture in another size, each pixel the mean of the area that it covers; the same one if the size is the same. */
export function resizeArea(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  if (width < 1 || height < 1) throw new ArgumentError(`a picture of ${width} x ${height} pixels cannot be`);
  const columns = overlaps(picture.width, width);
  const rows = overlaps(picture.height, height);
  const data = new Uint8Array(3 * width * height);
  for (const [y, down] of rows.entries()) {
    for (const [x, across] of columns.entries()) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (const [v, tall] of down) {
          for (const [u, wide] of across) sum += tall * wide * picture.data[3 * (v * picture.width + u) + c]!;
        }
        data[3 * (y * width + x) + c] = Math.round(sum);
      }
    }
  }
  return { width, height, data };
}

/** For each of `to` equal parts of a line of `from` pixels: the pixels that it covers, and which share of it each is. */
function overlaps(from: number, to: number): [number, number][][] {
  return Array.from({ length: to }, (_, i) => {
    const [start, end] = [(i * from) / to, ((i + 1) * from) / to];
    const covered: [number, number][] = [];
    for (let pixel = Math.floor(start); pixel < Math.ceil(end - 1e-9); pixel++) {
      const share = Math.min(end, pixel + 1) - Math.max(start, pixel);
      if (share > 0) covered.push([pixel, share / (end - start)]);
    }
    return covered;
  });
}
