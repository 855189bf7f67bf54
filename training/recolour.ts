/** Pictures in colours that they do not come in: what teaches a model that "blue" is a word for any thing. */
import { withArticle } from "./captions.ts";
import { type ColourName, dominantColour } from "./colour.ts";
import { type Augmentation, type EmojiData, type EmojiEntry, imageSize, writeImage } from "./data.ts";

const pixels = imageSize * imageSize;
const plain: Augmentation = { flip: false, turns: 0, shiftX: 0, shiftY: 0, hue: 0, saturation: 1, ink: 1 };
// Hue turns by sixths, and one dark grey.
const changes: readonly Augmentation[] = [
  ...[1, 2, 3, 4, 5].map((sixths) => ({ ...plain, hue: (sixths * Math.PI) / 3, saturation: 1.1 })),
  { ...plain, saturation: 0, ink: 1.5 },
];

/** Every picture of one colour, in each other colour that a change of hue brings it to; one caption each, which names it. */
export function recoloured(data: EmojiData): EmojiData {
  const entries: EmojiEntry[] = [];
  const images: Uint8Array[] = [];
  const changed = new Float32Array(3 * pixels);
  for (const [index, entry] of data.entries.entries()) {
    const name = entry.colour && nameWithout(entry.colour, entry);
    if (!name) continue;
    const seen = new Set<ColourName>([entry.colour!]);
    for (const change of changes) {
      writeImage(data, index, changed, change);
      const rgb = bytes(changed);
      const colour = dominantColour(rgb);
      if (!colour || seen.has(colour)) continue;
      seen.add(colour);
      images.push(rgb);
      entries.push({ ...entry, colour, captions: [{ text: withArticle(`${colour} ${name}`), weight: 1 }] });
    }
  }
  const all = new Uint8Array(images.length * 3 * pixels);
  for (const [i, image] of images.entries()) all.set(image, i * 3 * pixels);
  return { count: entries.length, images: all, entries };
}

/** "fish" of an entry that has the caption "a blue fish". */
function nameWithout(colour: ColourName, { captions }: EmojiEntry): string | undefined {
  const pattern = new RegExp(`^(?:an? )?${colour} (.+)$`);
  return captions.map(({ text }) => pattern.exec(text)?.[1]).find(Boolean);
}

function bytes(planes: Float32Array): Uint8Array {
  const rgb = new Uint8Array(planes.length);
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = Math.round(127.5 * (planes[c * pixels + i]! + 1));
  }
  return rgb;
}
