/** The symmetric contrastive loss of CLIP (Radford et al. 2021, figure 3), for captions that several pictures share. */
import { ArgumentError } from "../errors.ts";
import { add, cast, clip, equal, exp, log, matmul, mul, reduceMax, reduceSum, sub } from "../graph/operators.ts";
import { constant, input, staticShape, type Value } from "../graph/value.ts";
import { meanAll } from "../graph/vjp.ts";
import type { FloatTensor } from "../tensor.ts";

/** The scale stays below this, so that no probability leaves the range of a float. */
const LARGEST_SCALE = 40;
/** What takes a pair out of a softmax. */
const NEVER = -1e4;

export interface ContrastiveLoss {
  loss: Value;
  /** The share of pictures whose nearest caption, of those of the batch that are not exempt, is their own. */
  accuracy: Value;
  /** What cosines are multiplied by: the inverse of the temperature. */
  scale: Value;
  /** An input "exempt" [pairs, pairs], which `notNegatives` fills: 0, or a number that takes the pair out. */
  exempt: Value;
}

/**
 * Cross-entropy of each caption over the pictures and of each picture over the captions. `text` and `image` are
 * [pairs, width] with rows of length 1, pair i in row i of both; `logScale` is a learned scalar.
 */
export function contrastiveLoss(text: Value, image: Value, logScale: Value): ContrastiveLoss {
  const [pairs] = staticShape(text, "contrastiveLoss") as [number, number];
  const identity = constant(
    Float32Array.from({ length: pairs * pairs }, (_, i) => (i % (pairs + 1) === 0 ? 1 : 0)),
    [pairs, pairs],
    "float32",
  );
  const exempt = input("exempt", [pairs, pairs]);
  const scale = exp(clip(logScale, 0, Math.log(LARGEST_SCALE)));
  const cosines = matmul(text, image, { transB: true });
  // Cosines are at most 1: after subtracting the scale nothing overflows, whatever the largest of a row is.
  const scores = add(mul(sub(cosines, 1), scale), exempt);
  const own = reduceSum(mul(scores, identity), [1], false);
  const likelihoods = exp(scores);
  const losses = [0, 1].map((axis) => meanAll(sub(log(reduceSum(likelihoods, [axis], false)), own)));
  const nearest = reduceMax(scores, [0], false);
  return {
    loss: mul(add(losses[0]!, losses[1]!), 0.5),
    accuracy: meanAll(cast(equal(nearest, own), "float32")),
    scale,
    exempt,
  };
}

/** Takes the pairs out of `exempt` whose caption (row) belongs to the other pair's picture (column) as well. */
export function notNegatives({ shape, data }: FloatTensor, belongs: (text: number, image: number) => boolean): void {
  const [rows, columns] = shape as [number, number];
  if (rows !== columns) throw new ArgumentError(`pairs are a square, not [${shape.join(", ")}]`);
  for (let text = 0; text < rows; text++) {
    for (let image = 0; image < columns; image++) {
      data[text * columns + image] = text !== image && belongs(text, image) ? NEVER : 0;
    }
  }
}
