/** Whether pictures show what their captions say, from a judge's embeddings of both: rows of length 1. */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";

/** The cosine between each picture and its own caption, row i of both: from -1 to 1. */
export function alignments(pictures: FloatTensor, captions: FloatTensor): number[] {
  const [count] = sameWidth(pictures, captions);
  if (captions.shape[0] !== count) throw new ShapeError(`${count} pictures have ${captions.shape[0]} captions`);
  return Array.from({ length: count }, (_, i) => cosine(pictures, i, captions, i));
}

/** Their mean. */
export function alignmentScore(pictures: FloatTensor, captions: FloatTensor): number {
  const cosines = alignments(pictures, captions);
  return cosines.reduce((sum, value) => sum + value, 0) / cosines.length;
}

/**
 * For each image the rank, from 1, of its right caption when all captions are sorted by nearness. If several are right
 * (`isRight(picture, caption)`), the nearest of them counts and the others are left out. A wrong caption that is
 * exactly as near ranks first, so that a judge or a model that gives one answer to everything gains nothing.
 */
export function retrievalRanks(
  pictures: FloatTensor,
  captions: FloatTensor,
  isRight: (picture: number, caption: number) => boolean,
): number[] {
  const [count, total] = sameWidth(pictures, captions);
  return Array.from({ length: count }, (_, picture) => {
    let best = Number.NEGATIVE_INFINITY;
    const wrong: number[] = [];
    for (let caption = 0; caption < total; caption++) {
      const near = cosine(pictures, picture, captions, caption);
      if (isRight(picture, caption)) best = Math.max(best, near);
      else wrong.push(near);
    }
    if (wrong.length === total) throw new ArgumentError(`picture ${picture} has no right caption among ${total}`);
    return 1 + wrong.filter((near) => near >= best).length;
  });
}

/** The share of ranks that are at most k. */
export function topAccuracy(ranks: readonly number[], k: number): number {
  return ranks.filter((rank) => rank <= k).length / ranks.length;
}

function cosine(a: FloatTensor, row: number, b: FloatTensor, other: number): number {
  const width = a.shape[1]!;
  let sum = 0;
  for (let i = 0; i < width; i++) sum += a.data[row * width + i]! * b.data[other * width + i]!;
  return sum;
}

/** Numbers of rows. */
function sameWidth(a: FloatTensor, b: FloatTensor): [number, number] {
  if (a.shape.length !== 2 || b.shape.length !== 2 || a.shape[1] !== b.shape[1]) {
    throw new ShapeError(`embeddings are [count, width]: [${a.shape.join(", ")}] and [${b.shape.join(", ")}]`);
  }
  return [a.shape[0]!, b.shape[0]!];
}
