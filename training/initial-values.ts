/** What the transformer and its text encoder start from. */
import { sizeOf } from "../src/tensor.ts";
import { initialise, Parameters } from "../src/training/parameters.ts";
import type { Trainer } from "../src/training/trainer.ts";
import { seededRandom } from "./random.ts";

/** Parts of the transformer that deal with text: its projection, and the blocks' cross-attention. */
const aboutText = /caption_projection|attn2/;

/**
 * Blocks begin as small corrections of their input, cross-attention as none at all, as in PixArt.
 *
 * The text encoder is drawn once and then left alone: its blocks add nothing, so what the transformer sees is each
 * word's own random vector, normalised. Trained together with the transformer it was shut out, twice: while words mean
 * nothing yet they are noise, and the cheapest way to be rid of noise was one large component in all tokens, which
 * left the caption projection's GELUs at zero and the text without a gradient.
 */
export function startValues(parameters: Parameters, seed: number): void {
  initialise(parameters, seededRandom(seed), (name) => {
    if (name.includes("shared.weight")) return 1;
    if (name.includes("relative_attention_bias")) return 0.1;
    // T5 does not divide its scores by sqrt(d): small queries do that.
    if (/SelfAttention\.q\.weight$/.test(name)) return 1 / Math.sqrt(128 * 32);
    if (/(SelfAttention\.o|DenseReluDense\.wo)\.weight$/.test(name)) return 0;
    if (/attn2\.to_out\.0\.weight$/.test(name)) return 0;
    if (/(attn1\.to_out\.0|ff\.net\.2)\.weight$/.test(name)) return 0.02;
    if (/transformer\/proj_out\.weight$/.test(name)) return 0.01;
    if (/adaln_single\.linear\.weight$/.test(name)) return 0.02;
    if (name.includes("scale_shift_table")) return 0.02;
    return undefined;
  });
  // A gate of 0 would pass nothing on the way back either: the tables' gate rows start at 1/4.
  for (const [name, { data: table, shape }] of Object.entries(parameters.tensors())) {
    if (!name.endsWith("scale_shift_table") || shape[0] !== 6) continue;
    const width = shape[1]!;
    for (const row of [2, 5]) table.fill(0.25, row * width, (row + 1) * width);
  }
}

/** Puts what deals with text back to its start, moments and averages too, and keeps what the rest has learned. */
export function renewText({ parameters, optimizer }: Trainer, seed: number): void {
  const fresh = new Parameters(new Map([...parameters.slots].map(([name, { shape }]) => [name, shape])));
  startValues(fresh, seed);
  for (const [name, { start, end }] of parameters.slots) {
    if (!aboutText.test(name)) continue;
    const values = fresh.values.subarray(start, end);
    parameters.values.set(values, start);
    optimizer.ema.set(values, start);
    optimizer.m.fill(0, start, end);
    optimizer.v.fill(0, start, end);
  }
}

/**
 * A UNet's: as above, cross-attention begins as nothing, attention, feed-forward layers and the second halves of resnets as
 * small corrections, and the prediction near zero.
 */
export function startUNet(parameters: Parameters, seed: number): void {
  initialise(parameters, seededRandom(seed), (name, shape) => {
    if (/attn2\.to_out\.0\.weight$/.test(name)) return 0;
    if (/(attn1\.to_out\.0|ff\.net\.2)\.weight$/.test(name)) return 0.02;
    if (/(conv2|attentions\.\d+\.proj_out)\.weight$/.test(name)) return 0.3 / Math.sqrt(sizeOf(shape.slice(1)));
    if (/conv_out\.weight$/.test(name)) return 0.01;
    return undefined;
  });
}

/** Motion modules': each adds nothing at first, so that training begins at the image model (AnimateDiff, section 4.2). */
export function startMotion(parameters: Parameters, seed: number): void {
  initialise(parameters, seededRandom(seed), (name) => (/\.proj_out\.weight$/.test(name) ? 0 : undefined));
}
