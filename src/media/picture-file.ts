/** What a picture file is told: its type, and what is written into it. */

export type PictureType = "image/png" | "image/jpeg" | "image/webp";

export interface SavePictureOptions {
  /** What is kept with the picture: prompt, seed, settings. */
  text?: Readonly<Record<string, string>>;
  /** Take the next free name (cat-2.png) where there is a file of this name; it is replaced unless this is false. */
  overwrite?: boolean;
}
