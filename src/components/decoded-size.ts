/**
 * Whether images of a size can be decoded at all. Checked first, so that no hours go into latents that cannot be
 * decoded.
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import { buildModel } from "../models/architecture.ts";
import { type AutoencoderConfig, decoderOf, fullSizeChannels, latentFactor } from "../models/autoencoder.ts";
import { describeBytes } from "../streamlined/bytes.ts";
import { costSource } from "../streamlined/cost.ts";

interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/**
 * Bytes that decoding takes at least: of two feature maps at full size, and the pictures. Everything else is smaller, or is there
 * before or after.
 */
export function decodedBytes(config: AutoencoderConfig, count: number, { width, height }: PictureSize) {
  const [before, own] = fullSizeChannels(config);
  return 4 * (own + before + 3) * count * width * height;
}

export interface DecodedSize {
  /** Pictures, or frames of all videos. */
  readonly count: number;
  /** How many are decoded at a time; all of them unless given. */
  readonly together?: number;
  readonly size: PictureSize;
  /** Sides are multiples of it. */
  readonly unit: number;
  /** Of this machine, in bytes; null where that is not known. */
  readonly memory: number | null;
}

/** Pixels of a picture that are never too many, so that a graph need not be made to know it. */
const ALWAYS_DECODED = 2 ** 20;

/** Throws ArgumentError for pictures that cannot be decoded, with the largest of that shape that can. */
export function checkDecoded(
  config: AutoencoderConfig,
  { count, together = count, size, unit, memory }: DecodedSize,
): void {
  const problem = (of: PictureSize): string | null => {
    const others = Math.max(0, count - together) * 4 * 3 * of.width * of.height;
    const bytes = decodedBytes(config, Math.min(count, together), of) + others;
    if (memory !== null && bytes > memory) {
      return `take at least ${bytes} bytes of memory (${describeBytes(bytes)}) to decode; this machine has ${memory} (${describeBytes(memory)})`;
    }
    return of.width * of.height > ALWAYS_DECODED ? refused(config, of) : null;
  };
  const found = problem(size);
  if (found === null) return;
  const scaled = (share: number): PictureSize => {
    const side = (pixels: number) => Math.max(unit, Math.floor((pixels * share) / unit) * unit);
    return { width: side(size.width), height: side(size.height) };
  };
  let [works, fails] = [0, 1];
  for (let i = 0; i < 12; i++) {
    const middle = (works + fails) / 2;
    if (problem(scaled(middle)) === null) works = middle;
    else fails = middle;
  }
  const { width, height } = scaled(works);
  const fewer = count > 1 ? "Ask for fewer pictures at a time, or" : "Ask";
  throw new ArgumentError(
    `${count > 1 ? `${count} pictures of ` : ""}${size.width} x ${size.height} pixels ${found}. ${fewer} for at most ${width} x ${height} pixels.`,
  );
}

/** What ONNX Runtime cannot run, such as a norm over too many values: found in the graph, without weights. */
function refused(config: AutoencoderConfig, { width, height }: PictureSize): string | null {
  const factor = latentFactor(config);
  const latent = { batch: 1, height: height / factor, width: width / factor };
  try {
    buildModel(decoderOf(config).model(config, latent), costSource().source);
    return null;
  } catch (error) {
    if (error instanceof ShapeError)
      return `are more than the autoencoder can decode (${error.message.replace(/\.$/, "")})`;
    throw error;
  }
}
