/** The large decoder: what it looks like, and how it begins with what a smaller one has learnt. */
import { concat, slice } from "../src/graph/shapes.ts";
import { staticDim, type Value } from "../src/graph/value.ts";
import { buildModel, type StagedModel } from "../src/models/architecture.ts";
import * as vae from "../src/models/autoencoder-kl.ts";
import type { WeightSource } from "../src/models/weights.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../src/tensor.ts";
import type { Parameters } from "../src/training/parameters.ts";

/** Channels at 256, 128, 64, 32, 16 and 8 pixels. */
const channels = [16, 24, 48, 64, 80, 80];
const groups = 8;

/** For pictures of 64 x 64 the four coarsest levels only, with the same names: what they learn there, 256 begins with. */
export function decoderConfig(size: 64 | 256) {
  const widths = size === 256 ? channels : channels.slice(2);
  return {
    _class_name: "AutoencoderKL",
    act_fn: "silu",
    block_out_channels: widths,
    down_block_types: widths.map(() => "DownEncoderBlock2D"),
    up_block_types: widths.map(() => "UpDecoderBlock2D"),
    in_channels: 3,
    out_channels: 3,
    latent_channels: 16,
    layers_per_block: 1,
    norm_num_groups: groups,
    sample_size: size,
    scaling_factor: 1,
    shift_factor: 0,
  };
}

/**
 * Takes over a tensor of a decoder with fewer channels: old channels keep their group, new ones come at its end, and old
 * ones read nothing of them. Only what the new ones add to a group's mean and deviation changes the result; 50 steps mend
 * that. What is in `flat` already stays where the old has nothing.
 */
export function widen(old: FloatTensor, shape: readonly number[], flat: Float32Array): void {
  const place = (channel: number, axis: number) => {
    const [from, to] = [old.shape[axis]!, shape[axis]!];
    if (from === to) return channel;
    const [small, large] = [from / groups, to / groups];
    return Math.floor(channel / small) * large + (channel % small);
  };
  const [rows, columns] = [old.shape[0]!, old.shape[1] ?? 1];
  const width = shape[1] ?? 1;
  const kernel = sizeOf(old.shape.slice(2));
  for (let row = 0; row < rows; row++) {
    const start = place(row, 0) * width * kernel;
    flat.fill(0, start, start + width * kernel);
    for (let column = 0; column < columns; column++) {
      const to = start + place(column, 1) * kernel;
      const from = (row * columns + column) * kernel;
      for (let i = 0; i < kernel; i++) flat[to + i] = old.data[from + i]!;
    }
  }
}

/** Fills what `old` has tensors for; what comes after its last level is another picture size's, and stays. */
export function beginWith(parameters: Parameters, old: ReadonlyMap<string, FloatTensor>, sameSize: boolean): string[] {
  const taken: string[] = [];
  for (const [name, { shape, start, end }] of parameters.slots) {
    const tensor = old.get(name);
    if (!tensor || (!sameSize && /\bconv_(norm_)?out\b/.test(name))) continue;
    widen(tensor, shape, parameters.values.subarray(start, end));
    taken.push(name);
  }
  return taken;
}

/** Of the 128 x 128 values that the two finest levels begin with: a quarter and what they see beyond it. */
const cropSide = 72;
/** Pixels of the result at a cut, which lack what lies beyond it. */
const margin = 12;

export interface CroppedDecoder {
  decoded: Value;
  /** [batch, 1, side, side]: 1 where the result counts. */
  mask: FloatTensor;
  /** Of the result, in pixels. */
  side: number;
  /** Left and top of what picture `i` of the batch shows. */
  corner(i: number): readonly [left: number, top: number];
}

/**
 * A decoder for 256 pixels whose coarse levels work on whole latents [batch, 16, 8, 8], and whose two finest levels, four
 * fifths of the work, on a quarter of each picture: one corner for every picture of four.
 */
export function croppedDecoder(config: vae.AutoencoderKLConfig, latent: Value, source: WeightSource): CroppedDecoder {
  const batch = staticDim(latent, 0, "croppedDecoder");
  const model = { ...vae.decoder(config, { batch, height: 8, width: 8 }), inputs: { latent } };
  const cut = model.stages.findIndex(({ name }) => name === "decoder.up_blocks.3") + 1;
  const coarse: StagedModel = { ...model, outputs: ["hidden"], stages: model.stages.slice(0, cut) };
  const hidden = buildModel(coarse, source)["hidden"]!;
  const room = 128 - cropSide;
  const side = 2 * cropSide;
  const isRight = (i: number) => i % 2 === 1;
  const isLower = (i: number) => Math.floor(i / 2) % 2 === 1;
  const crops: Value[] = [];
  const mask = new Float32Array(batch * side * side);
  for (let i = 0; i < batch; i++) {
    const [left, top] = [isRight(i) ? room : 0, isLower(i) ? room : 0];
    const rows = slice(slice(hidden, 0, i, i + 1), 2, top, top + cropSide);
    crops.push(slice(rows, 3, left, left + cropSide));
    const counts = (at: number, far: boolean) => (far ? at >= margin : at < side - margin);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        mask[(i * side + y) * side + x] = counts(x, isRight(i)) && counts(y, isLower(i)) ? 1 : 0;
      }
    }
  }
  const fine: StagedModel = { ...model, inputs: { hidden: concat(crops, 0) }, stages: model.stages.slice(cut) };
  return {
    decoded: buildModel(fine, source)["decoded"]!,
    mask: floatTensor([batch, 1, side, side], mask),
    side,
    corner: (i) => [isRight(i) ? 2 * room : 0, isLower(i) ? 2 * room : 0],
  };
}
