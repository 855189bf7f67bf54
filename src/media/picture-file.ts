/** Options of an image file: its type, and the text that is written into it. */

export type PictureType = "image/png" | "image/jpeg" | "image/webp";

/** How `save` writes a picture. */
export interface SavePictureOptions {
  /** Text that is stored in the file: prompt, seed, settings. */
  text?: Readonly<Record<string, string>>;
  /** Take the next free name (cat-2.png) where there is a file of this name; it is replaced unless this is false. */
  overwrite?: boolean;
}
