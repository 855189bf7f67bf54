/** How much of a video or an image is decoded, or encoded, at a time, within a memory budget. */
import type { Component } from "../components/components.ts";
import { BudgetError } from "../errors.ts";
import { topologicalOrder, type Value } from "../graph/value.ts";
import { buildModel } from "../models/architecture.ts";
import { describeBytes } from "../streamlined/bytes.ts";
import { activationBytes, costSource } from "../streamlined/cost.ts";
import { OVERHEAD, WEIGHT_SHARE } from "../streamlined/planner.ts";
import { sizeOf } from "../tensor.ts";

/** The part of a latent that is decoded at a time. */
export interface DecodingSize {
  readonly frames: number;
  readonly tile?: { readonly height: number; readonly width: number; readonly overlap: number };
  /** The memory that it is predicted to take, in bytes, if there is a budget. */
  readonly peak?: number;
}

/** In smaller tiles the blended edges would be most of the tile. */
const SMALLEST_TILE = 16;

/**
 * As many frames as fit into a budget in bytes, and tiles of one frame if not even one fits. Height and width are those of the
 * latent. Throws BudgetError, with the smallest budget that works, where the smallest tile does not fit.
 */
export function decodingIn(
  decoder: Component<unknown>,
  size: { frames: number; height: number; width: number },
  budget = Number.POSITIVE_INFINITY,
): DecodingSize {
  return sizeWithin(decoder, 1, "decoder", size, budget);
}

/** The same for an encoder whose images have `factor` pixels on each side for one element of the latent. */
export function encodingIn(
  encoder: Component<unknown>,
  factor: number,
  size: { height: number; width: number },
  budget: number,
): DecodingSize {
  return sizeWithin(encoder, factor, "encoder", { frames: 1, ...size }, budget);
}

function sizeWithin(
  network: Component<unknown>,
  cell: number,
  name: string,
  { frames, height, width }: { frames: number; height: number; width: number },
  budget: number,
): DecodingSize {
  if (budget === Number.POSITIVE_INFINITY) return { frames };
  const peakOf = sessionPeak(network, cell);
  for (let count = frames; count >= 1; count--) {
    const peak = peakOf(count, height, width);
    if (peak <= budget) return { frames: count, peak };
  }
  let [high, wide] = [height, width];
  while (Math.max(high, wide) > SMALLEST_TILE) {
    if (high >= wide) high = Math.ceil(high / 2);
    else wide = Math.ceil(wide / 2);
    const overlap = Math.floor(Math.min(high, wide) / 4);
    const peak = peakOf(1, high, wide);
    if (peak <= budget) return { frames: 1, tile: { height: high, width: wide, overlap }, peak };
  }
  const smallest = peakOf(1, high, wide);
  throw new BudgetError(
    `The autoencoder's ${name} cannot run in ${describeBytes(budget)}; the smallest budget for it is ` +
      `${describeBytes(smallest)}, in tiles.`,
    smallest,
  );
}

/**
 * The memory of one session: its weights, and its values, which grow with the number of pixels of all frames. So the values of a small
 * picture are counted and multiplied.
 */
function sessionPeak(
  network: Component<unknown>,
  cell: number,
): (frames: number, height: number, width: number) => number {
  const side = cell * SMALLEST_TILE;
  const model = network.model({ batch: 1, frames: 1, height: side, width: side });
  const { source, parameters } = costSource();
  const outputs = buildModel(model, source);
  const bytes = (values: Iterable<Value>) =>
    [...values].reduce((sum, { shape }) => sum + 4 * sizeOf(shape as number[]), 0);
  // A norm's scale of ones, as large as a picture, is made when the session loads and stays.
  const ones = topologicalOrder(Object.values(outputs)).filter(({ op }) => op === "Expand");
  const perTile = activationBytes(outputs) + bytes(Object.values(outputs)) + bytes(Object.values(model.inputs));
  const perSession = bytes(ones.flatMap((node) => node.outputs));
  const weights = WEIGHT_SHARE * bytes(parameters.values());
  return (frames, height, width) => {
    const tiles = (height * width) / SMALLEST_TILE ** 2;
    return OVERHEAD + weights + tiles * (frames * perTile + perSession);
  };
}
