import type { ColourName } from "./colour.ts";
import { pick, type Random } from "./random.ts";
import { synonyms } from "./synonyms.ts";

export interface Caption {
  text: string;
  /** How often to draw this one, relative to the emoji's other captions. */
  weight: number;
}

/** What captions are made of. */
export interface Subject {
  label: string;
  subgroup: string;
  tags: readonly string[];
  /** The picture's one dominant colour, if it has one. */
  colour?: ColourName | undefined;
}

/**
 * A label as a person would say it: lower case, no hyphens or quotation marks, "person: beard" as "person with beard".
 * The tokenizer drops case and splits punctuation anyway; this is about words.
 */
export function naturalForm(label: string): string {
  return straightQuotes(label.toLowerCase())
    .replaceAll('"', "")
    .replace(/\s*\(.*?\)/g, "")
    .replace(/^(man|woman|person): bald$/, "bald $1")
    .replace(/: /g, " with ")
    .replace(/[-–]/g, " ")
    .replace(/[!,]/g, "")
    .replace(/\s+/g, " ")
    .trim();
}

const straightQuotes = (text: string) => text.replace(/[“”]/g, '"').replace(/[‘’]/g, "'");

// Words after which the head noun of a label is over: "glass of milk" is about a glass.
const tail = /\s(with|without|of|on|in|at|to|from|behind|over|under|and|for|playing|getting|covering|showing)\s.*$/;
const uncounted = new Set(
  "bacon boom bread broccoli butter candy cheese coffee coral corn dna fog foggy garlic ginger honey ice knot lettuce lightning \
  luggage mail meat milk mind money pasta popcorn ramen rice salt sake soap spaghetti sushi tea toast tennis badminton fire \
  whisky wine wood locked unlocked information construction cooking camping anger poop water oden fondue dango tofu lacrosse cricket softball"
    .split(/\s+/)
    .map((word) => word.trim()),
);
const singularInS = /(ss|us|is|ous|glass|dress|cactus|octopus|compass|bus|tennis|chess|swiss|gas|lens)$/;
/** "a" or "an" before a phrase that takes one; plurals and uncounted nouns stay as they are. */
export function withArticle(phrase: string): string {
  const head = phrase.replace(tail, "").split(" ").at(-1) ?? "";
  const isPlural = (/s$/.test(head) && !singularInS.test(head)) || /^(people|men|women|feet|mice|dice)$/.test(head);
  if (isPlural || uncounted.has(head) || /^(a|an|the|one|two|no)\b/.test(phrase)) return phrase;
  // The sound decides, not the letter: a unicorn, a ewe, a UFO; an hourglass, an x-ray, an e-mail
  const vowel = /^([aeio]|u(?!ni|fo|se|ti)|hour|x ray|suv\b)/.test(phrase) && !/^(ewe|euro|one)/.test(phrase);
  return `${vowel ? "an" : "a"} ${phrase}`;
}

/** A word for the kind of thing, for subgroups in which one word fits all. */
const kinds: Readonly<Record<string, string>> = {
  "cat-face": "cat",
  "monkey-face": "monkey",
  heart: "heart",
  "animal-mammal": "animal",
  "animal-bird": "bird",
  "animal-reptile": "reptile",
  "animal-marine": "sea animal",
  "animal-bug": "bug",
  "plant-flower": "flower",
  "plant-other": "plant",
  "food-fruit": "fruit",
  "food-vegetable": "vegetable",
  "food-prepared": "food",
  "food-asian": "food",
  "food-sweet": "sweet food",
  drink: "drink",
  "transport-water": "boat",
  sport: "sport",
  "musical-instrument": "musical instrument",
  clothing: "clothing",
  tool: "tool",
  zodiac: "zodiac sign",
  arrow: "arrow",
  geometric: "shape",
};

const colourWord = /\b(red|orange|yellow|green|blue|purple|pink|brown|black|grey|gray|white|golden|blond)\b/;

/**
 * The captions of one emoji. The label and its natural form are half of the weight or more; then everyday synonyms, the
 * dominant colour ("a red strawberry": it is what lets a model recombine colours), tags as associations, and the kind.
 */
export function captionsOf({ label, subgroup, tags, colour }: Subject, random: Random): Caption[] {
  const natural = naturalForm(label);
  const words = new Set(natural.split(" "));
  const phrase = subgroup === "math" && !/sign/.test(natural) ? `${natural} sign` : natural;
  const captions: Caption[] = [
    { text: straightQuotes(label.toLowerCase()), weight: 3 },
    { text: withArticle(phrase), weight: 3 },
  ];
  const others = synonyms[label.toLowerCase()] ?? [];
  for (const other of others) captions.push({ text: withArticle(other), weight: 2 / others.length });

  // The colour goes with the shortest name, which a person would use: "an orange cat", not "an orange cat face"
  const shortest = others[0] ?? phrase;
  const isPerson = /^(person|family)/.test(subgroup); // whose colour is that of the clothes, or nobody's
  if (colour && !isPerson && !colourWord.test(natural) && !colourWord.test(shortest)) {
    captions.push({ text: withArticle(`${colour} ${shortest}`), weight: 1 });
  }
  const associations = tags.filter((tag) => !tag.split(" ").every((word) => words.has(word)));
  const two = pick(associations, 2, random);
  if (two.length > 0) captions.push({ text: [natural, ...two].join(", "), weight: 1 });
  const three = pick(associations, 3, random);
  if (three.length > 1) captions.push({ text: three.join(", "), weight: 0.5 });
  const kind = kinds[subgroup];
  if (kind && !natural.includes(kind)) captions.push({ text: `${natural}, ${kind}`, weight: 0.5 });
  captions.push({ text: `${natural} emoji`, weight: 0.5 });
  return merged(captions);
}

/** One caption a text, equal texts' weights added. */
function merged(captions: readonly Caption[]): Caption[] {
  const weights = new Map<string, number>();
  for (const { text, weight } of captions) weights.set(text, (weights.get(text) ?? 0) + weight);
  return [...weights].map(([text, weight]) => ({ text, weight }));
}

// Tags that are chat slang or grammar and say nothing about a picture.
const noise = new Set(
  "adorbs bae bff omg lol lmao rofl brb omw ftw gtg smh tbh idk dude bro fab sis way the and can not".split(" "),
);

/** Tags that say something to a model: words (no numbers or emoticons) that at least `minimum` emoji share. */
export function usefulTags(
  tagLists: readonly (readonly string[])[],
  labels: readonly string[],
  minimum = 2,
): string[][] {
  const clean = tagLists.map((tags) =>
    [...new Set(tags.map(naturalForm))].filter((tag) => /^\p{L}{3,}( \p{L}+)*$/u.test(tag) && !noise.has(tag)),
  );
  const counts = new Map<string, number>();
  for (const tag of clean.flat()) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  const inLabels = new Set(labels.flatMap((label) => naturalForm(label).split(" ")));
  return clean.map((tags) => tags.filter((tag) => (counts.get(tag) ?? 0) >= minimum || inLabels.has(tag)));
}
