/** Pictures for the documentation: a fifth of what PNG takes. */
import sharp from "sharp";
import type { Picture } from "../src/media/picture.ts";

export async function writeWebp(file: string, { width, height, data }: Picture): Promise<void> {
  await sharp(data, { raw: { width, height, channels: 3 } })
    .webp({ quality: 90, smartSubsample: true })
    .toFile(file);
}
