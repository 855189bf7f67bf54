/** A picture to a file or a Blob, in Node: what `#picture-file` is there. */
import { flag, texts } from "../checks.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { checkFile, writeWhole } from "./output-node.ts";
import type { Picture } from "./picture.ts";
import type { PictureType, SavePictureOptions } from "./picture-file.ts";
import { checkEncoder, encodePicture, type PictureFormat, pictureFormat } from "./picture-node.ts";

const savePictureOptions: OptionTable<SavePictureOptions> = { text: texts, overwrite: flag };

/** Returns the file's name. Throws ArgumentError for a name that cannot be, ToolError without sharp for JPEG and WebP. */
export async function savePicture(picture: Picture, path: string, given: SavePictureOptions = {}): Promise<string> {
  const { text = {}, overwrite = true } = readOptions(given, savePictureOptions, { of: "save" });
  const format = pictureFormat(path);
  await checkFile(path);
  await checkEncoder(format);
  return writeWhole(path, await encodePicture(picture, format, text), { overwrite });
}

/** `quality` is for a browser: sharp has its own for each format. */
export async function encodeBlob(picture: Picture, type: PictureType, _quality: number): Promise<Blob> {
  const bytes = await encodePicture(picture, type.slice("image/".length) as PictureFormat);
  return new Blob([bytes as Uint8Array<ArrayBuffer>], { type });
}
