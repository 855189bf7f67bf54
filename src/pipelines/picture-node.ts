/** Pictures from files. */
import { ArgumentError, ToolError } from "../errors.ts";
import type { Picture } from "./picture.ts";

/**
 * A picture from a file (PNG, JPEG, WebP, GIF, AVIF, TIFF), upright as its camera says, in sRGB; transparency becomes white.
 * Throws ArgumentError for a file that is not there or no picture, ToolError where sharp's binary is missing.
 */
export async function readPicture(path: string): Promise<Picture> {
  const { default: sharp } = await import("sharp").catch((cause) => {
    throw new ToolError(
      "Reading a picture needs the binary of sharp for this system, which npm installs unless optional packages are left " +
        "out: npm install --include=optional sharp.",
      { cause },
    );
  });
  try {
    const image = sharp(path).rotate().flatten({ background: "#ffffff" }).toColourspace("srgb");
    const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
    const rgb =
      info.channels === 1 ? Uint8Array.from({ length: 3 * data.length }, (_, i) => data[Math.floor(i / 3)]!) : data;
    return { width: info.width, height: info.height, data: Uint8Array.from(rgb) };
  } catch (cause) {
    throw new ArgumentError(`${path}: cannot be read as a picture: ${(cause as Error).message}`, { cause });
  }
}
