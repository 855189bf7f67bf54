/** The names that captions use for colours. */
export const colourNames = "red orange yellow green blue purple pink brown black grey white".split(" ") as ColourName[];
export type ColourName = "red" | "orange" | "yellow" | "green" | "blue" | "purple" | "pink" | "brown" | Shade;
type Shade = "black" | "grey" | "white";

/** The everyday name of an sRGB colour (0 to 255 each). Borders fitted by eye to Fluent's palette. */
export function colourName(r: number, g: number, b: number): ColourName {
  const max = Math.max(r, g, b);
  const min = Math.min(r, g, b);
  const chroma = max - min;
  const value = max / 255;
  if (chroma < 40 || chroma / Math.max(max, 1) < 0.18) return value > 0.86 ? "white" : value > 0.38 ? "grey" : "black";
  if (value < 0.25) return "black";
  const hue = hueOf(r, g, b, max, chroma);
  const saturation = chroma / max;
  if (hue >= 335 || hue < 10) {
    if (saturation < 0.62) return value > 0.72 ? "pink" : "brown";
    return value < 0.45 ? "brown" : "red";
  }
  if (hue >= 300) return "pink";
  if (hue < 45 && (value < 0.72 || saturation < 0.58)) return "brown";
  if (hue < 30) return "orange";
  if (hue < 68) return "yellow";
  if (hue < 165) return "green";
  if (hue < 252) return "blue";
  return "purple";
}

function hueOf(r: number, g: number, b: number, max: number, chroma: number): number {
  const sextant = max === r ? ((g - b) / chroma + 6) % 6 : max === g ? (b - r) / chroma + 2 : (r - g) / chroma + 4;
  return sextant * 60;
}

// A shaded object runs into the next hue: a yellow face is orange at its lower edge.
const neighbours: Readonly<Record<ColourName, readonly ColourName[]>> = {
  red: ["pink", "orange", "brown"],
  orange: ["yellow", "red", "brown"],
  yellow: ["orange"],
  green: ["yellow"],
  blue: ["purple"],
  purple: ["blue", "pink"],
  pink: ["red", "purple"],
  brown: ["orange", "red"],
  black: ["grey"],
  grey: ["white", "black"],
  white: ["grey"],
};

/**
 * The colour that a person would call the whole picture by: it has 0.38 of the foreground, and 0.65 with its neighbours.
 * Undefined if no colour does. Foreground is what is not white unless `isForeground` (by pixel number) knows better.
 */
export function dominantColour(
  rgb: Uint8Array,
  isForeground: (pixel: number) => boolean = (p) => Math.min(rgb[3 * p]!, rgb[3 * p + 1]!, rgb[3 * p + 2]!) < 248,
): ColourName | undefined {
  const votes = new Map<ColourName, number>();
  let total = 0;
  for (let pixel = 0; pixel < rgb.length / 3; pixel++) {
    if (!isForeground(pixel)) continue;
    total++;
    const name = colourName(rgb[3 * pixel]!, rgb[3 * pixel + 1]!, rgb[3 * pixel + 2]!);
    votes.set(name, (votes.get(name) ?? 0) + 1);
  }
  const best = colourNames.reduce((a, b) => ((votes.get(b) ?? 0) > (votes.get(a) ?? 0) ? b : a));
  const own = votes.get(best) ?? 0;
  const near = neighbours[best].reduce((sum, name) => sum + (votes.get(name) ?? 0), own);
  return total > 0 && own >= 0.38 * total && near >= 0.65 * total ? best : undefined;
}
