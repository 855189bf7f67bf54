import { describe, expect, it } from "vitest";
import {
  codePointKey,
  type EmojiRecord,
  plainForms,
  reasonToLeaveOut,
  rungOf,
  selectEmoji,
} from "../../training/emoji.ts";

const names = {
  groups: { "0": "smileys-emotion", "1": "people-body", "8": "symbols", "9": "flags" },
  subgroups: { "0": "face-smiling", "25": "person-role", "94": "keycap" },
};
const record = (hexcode: string, rest: Partial<EmojiRecord> = {}): EmojiRecord => ({
  hexcode,
  label: hexcode,
  emoji: "",
  group: 1,
  subgroup: 25,
  ...rest,
});

describe("matching emoji with picture files", () => {
  it.each([
    ["2764-FE0F", "2764"],
    ["00A9-FE0F", "a9"],
    ["1F3F3-FE0F-200D-1F308", "1f3f3-200d-1f308"],
    ["1F600", "1f600"],
  ])("reads %s as %s", (hexcode, key) => expect(codePointKey(hexcode)).toBe(key));

  it.each([
    ["1F1E6", { group: undefined }, "regional indicator"],
    ["1F1E6-1F1E8", { group: 9 }, "flag"],
    ["1F3FB", { group: 2 }, "component or skin tone"],
    ["1F44B-1F3FD", {}, "component or skin tone"],
    ["0031-FE0F-20E3", { group: 8, subgroup: 94 }, "keycap"],
    ["1F550", {}, "clock face"],
    ["1F567", {}, "clock face"],
    ["1F570-FE0F", {}, undefined], // mantelpiece clock: a thing
    ["1F600", { group: 0, subgroup: 0 }, undefined],
  ])("leaves out %s: %o %s", (hexcode, rest, reason) =>
    expect(reasonToLeaveOut(record(hexcode, rest), names)).toBe(reason),
  );

  it.each([
    ["1F3C3-200D-2640-FE0F", ["1f3c3"]], // woman running: person running
    ["1F469-200D-1F52C", ["1f9d1-200d-1f52c"]], // woman scientist: scientist
    ["1F469-200D-2764-FE0F-200D-1F48B-200D-1F468", ["1f48f"]], // kiss
    ["1F469-200D-2764-FE0F-200D-1F468", ["1f491"]], // couple with heart
    ["1F468-200D-1F469-200D-1F466", ["1f46a"]], // family
    ["1F469", []], // woman: a person of her own
    ["2640-FE0F", []], // female sign
  ])("knows the plain form of %s", (hexcode, forms) => expect(plainForms(hexcode)).toEqual(forms));

  it("keeps Unicode's order, and a gendered emoji only where the plain one has no picture", () => {
    const { kept, leftOut, unmatched } = selectEmoji(
      [
        record("1F600", { group: 0, order: 2 }),
        record("1F469-200D-1F52C", { order: 1 }),
        record("1F469-200D-1F3A8", { order: 3 }),
        record("1FADF", { order: 4 }),
      ],
      names,
      ["1f600.webp", "1f9d1-200d-1f52c.webp", "1f469-200d-1f52c.webp", "1f469-200d-1f3a8.webp"],
    );
    expect(kept.map(({ file }) => file)).toEqual(["1f600.webp", "1f469-200d-1f3a8.webp"]);
    expect(leftOut.get("gender or family variant")?.map(({ hexcode }) => hexcode)).toEqual(["1F469-200D-1F52C"]);
    expect(unmatched.map(({ hexcode }) => hexcode)).toEqual(["1FADF"]);
  });

  it("puts faces, animals and food first, symbols last", () => {
    expect(["food-drink", "objects", "symbols"].map(rungOf)).toEqual([1, 2, 3]);
  });
});
