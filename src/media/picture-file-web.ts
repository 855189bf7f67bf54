/** A picture to a file or a Blob, in a browser: what `#picture-file` is there. */
import { StateError } from "../errors.ts";
import type { Picture } from "./picture.ts";
import type { PictureType } from "./picture-file.ts";

export async function savePicture(): Promise<string> {
  throw new StateError(
    "A browser has no files to write to. toBlob() gives a file that a link can offer: URL.createObjectURL(blob).",
  );
}

/** `quality` from 0 to 1. */
export function encodeBlob(picture: Picture & Drawable, type: PictureType, quality: number): Promise<Blob> {
  return picture.toCanvas().convertToBlob({ type, quality });
}

interface Drawable {
  toCanvas(): OffscreenCanvas;
}
