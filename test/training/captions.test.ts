import { describe, expect, it } from "vitest";
import { captionsOf, naturalForm, usefulTags, withArticle } from "../../training/captions.ts";
import { colourName, dominantColour } from "../../training/colour.ts";
import { seededRandom, seedOf } from "../../training/random.ts";

describe("captions", () => {
  it.each([
    ["smiling face with heart-eyes", "smiling face with heart eyes"],
    ["person: beard", "person with beard"],
    ["person: bald", "bald person"],
    ["woman’s boot", "woman's boot"],
    ["A button (blood type)", "a button"],
    ["Japanese “passing grade” button", "japanese passing grade button"],
  ])("says %s as %s", (label, natural) => expect(naturalForm(label)).toBe(natural));

  it.each([
    ["apple", "an apple"],
    ["unicorn", "a unicorn"],
    ["hourglass", "an hourglass"],
    ["ewe", "a ewe"],
    ["ufo", "a ufo"],
    ["umbrella", "an umbrella"],
    ["glass of milk", "a glass of milk"],
    ["grapes", "grapes"],
    ["sunglasses", "sunglasses"],
    ["octopus", "an octopus"],
    ["broccoli", "broccoli"],
    ["people holding hands", "people holding hands"],
    ["no entry", "no entry"],
  ])("puts the article before %s: %s", (phrase, expected) => expect(withArticle(phrase)).toBe(expected));

  const cat = { label: "smiling cat with heart-eyes", subgroup: "cat-face", tags: ["love", "smile", "cat", "animal"] };
  const make = () => captionsOf(cat, seededRandom(seedOf("1F63B")));

  it("gives each emoji several different ones, the label's own half of the weight or more, and the same every time", () => {
    const captions = make();
    expect(make()).toEqual(captions);
    const texts = captions.map(({ text }) => text);
    expect(new Set(texts).size).toBe(texts.length);
    expect(texts.slice(0, 2)).toEqual(["smiling cat with heart-eyes", "a smiling cat with heart eyes"]);
    const total = captions.reduce((sum, { weight }) => sum + weight, 0);
    expect((captions[0]!.weight + captions[1]!.weight) / total).toBeGreaterThanOrEqual(0.5);
    // "cat" is in the label: as a tag it would say nothing new
    expect(texts.some((text) => /, cat\b/.test(text))).toBe(false);
  });

  it("names the colour of a thing by its everyday name, but no person's, and no colour twice", () => {
    const texts = (label: string, subgroup: string) =>
      captionsOf({ label, subgroup, tags: [], colour: "red" }, seededRandom(1)).map(({ text }) => text);
    expect(texts("dog face", "animal-mammal")).toContain("a red dog");
    expect(texts("red heart", "heart").filter((text) => text.includes("red red"))).toEqual([]);
    expect(texts("artist", "person-role").filter((text) => text.includes("red"))).toEqual([]);
  });

  it("keeps tags that are words and that two emoji share or a label has", () => {
    const kept = usefulTags(
      [
        ["143", "love", "rare", "<3", "omg"],
        ["love", "moon"],
      ],
      ["full moon", "face"],
    );
    expect(kept).toEqual([["love"], ["love", "moon"]]);
  });
});

describe("colour names", () => {
  it.each([
    [[255, 30, 40], "red"],
    [[255, 200, 60], "yellow"],
    [[250, 130, 30], "orange"],
    [[60, 160, 60], "green"],
    [[40, 130, 240], "blue"],
    [[130, 80, 220], "purple"],
    [[255, 110, 190], "pink"],
    [[130, 85, 60], "brown"],
    [[30, 30, 34], "black"],
    [[140, 140, 144], "grey"],
    [[250, 250, 250], "white"],
  ] as const)("calls %o %s", ([r, g, b], name) => expect(colourName(r, g, b)).toBe(name));

  it("asks for one colour that dominates, with its neighbours", () => {
    const picture = (...colours: number[][]) => Uint8Array.from(colours.flat());
    const [yellow, orange, blue, white] = [
      [255, 200, 60],
      [250, 130, 30],
      [40, 130, 240],
      [255, 255, 255],
    ];
    expect(dominantColour(picture(yellow, yellow, orange, white, white))).toBe("yellow");
    expect(dominantColour(picture(yellow, blue, white))).toBeUndefined();
    expect(dominantColour(picture(white, white))).toBeUndefined();
  });
});
