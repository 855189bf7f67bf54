import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { checkDecoded, decodedBytes } from "../../src/components/decoded-size.ts";
import { ArgumentError } from "../../src/errors.ts";
import { autoencoderKL } from "../../src/models/autoencoder-kl.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";

const config = autoencoderKL.decoder.parseConfig({
  ...{ _class_name: "AutoencoderKL", block_out_channels: [24, 48, 64, 64], layers_per_block: 1, norm_num_groups: 8 },
  ...{
    down_block_types: new Array(4).fill("DownEncoderBlock2D"),
    up_block_types: new Array(4).fill("UpDecoderBlock2D"),
  },
  ...{ in_channels: 3, out_channels: 3, latent_channels: 16, scaling_factor: 1 },
});
const square = (side: number) => ({ width: side, height: side });

/** The error's message, and the size that it says would work. */
function refusal(given: Parameters<typeof checkDecoded>[1]): {
  message: string;
  works: { width: number; height: number };
} {
  try {
    checkDecoded(config, given);
  } catch (error) {
    expect(error).toBeInstanceOf(ArgumentError);
    const { message } = error as Error;
    const [width, height] = /at most (\d+) x (\d+) pixels\.$/.exec(message)!.slice(1).map(Number) as [number, number];
    return { message, works: { width, height } };
  }
  throw new Error("It was not refused.");
}

describe("a size that cannot be decoded", () => {
  it("is refused with the bytes it takes, and a size that works, in a machine with less memory", () => {
    // Two maps of 24 and 48 channels and the picture's three, in float32.
    expect(decodedBytes(config, 2, { width: 1024, height: 512 })).toBe(4 * 75 * 2 * 1024 * 512);
    const memory = 100e6;
    const { message, works } = refusal({ count: 1, size: { width: 1024, height: 512 }, unit: 16, memory });
    expect(message).toContain(
      `1024 x 512 pixels take at least ${4 * 75 * 1024 * 512} bytes of memory (158 MB) to decode`,
    );
    expect(decodedBytes(config, 1, works)).toBeLessThanOrEqual(memory);
    expect(decodedBytes(config, 1, { width: works.width + 16, height: works.height + 16 })).toBeGreaterThan(memory);
    expect(() => checkDecoded(config, { count: 1, size: works, unit: 16, memory })).not.toThrow();
  });

  it("is refused where a norm has more values than any session takes, whatever the memory", () => {
    // 48 channels in 8 groups: 6 values a pixel, of which 2^27 may be.
    const { message, works } = refusal({ count: 1, size: square(8192), unit: 16, memory: null });
    expect(message).toContain(String(6 * 8192 ** 2));
    expect(6 * works.width * works.height).toBeLessThanOrEqual(2 ** 27);
    expect(6 * (works.width + 16) * (works.height + 16)).toBeGreaterThan(2 ** 27);
  });

  it("is no other", () => {
    for (const side of [64, 512, 1024, 2048]) {
      expect(() => checkDecoded(config, { count: 1, size: square(side), unit: 16, memory: 8e9 })).not.toThrow();
    }
  });
});

it("generate refuses 8192 x 8192 pixels before it draws, and warns of 128 before it does", async () => {
  const out = join(await temporaryFolder(), "a.png");
  const args = ["generate", "a red apple", "--out", out, "--threads", "1", "--steps", "1"];
  const large = await halfstepHere(...args, "--width", "8192", "--height", "8192");
  expect(large.code).toBe(1);
  expect(large.stderr).toMatch(
    /8192 x 8192 pixels (take at least \d+ bytes|are more than).*at most \d+ x \d+ pixels\.\n$/,
  );
  const far = await halfstepHere(...args, "--width", "128", "--height", "128");
  expect(far.code).toBe(0);
  const [warning, steps] = [far.stderr.indexOf("far from the 64 x 64"), far.stderr.search(/\d\/1 steps/)];
  expect(warning).toBeGreaterThan(0);
  if (steps >= 0) expect(warning).toBeLessThan(steps);
  expect(far.stderr.split("far from the 64 x 64")).toHaveLength(2);
});
