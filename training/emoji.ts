/** What emojibase-data/en/data.json says of an emoji: the fields that are used here. */
export interface EmojiRecord {
  label: string;
  hexcode: string;
  emoji: string;
  tags?: string[];
  /** Position in Unicode's own order. */
  order?: number;
  group?: number;
  subgroup?: number;
}

/** emojibase-data/meta/groups.json: names of groups and subgroups by number. */
export interface GroupNames {
  groups: Record<string, string>;
  subgroups: Record<string, string>;
}

/**
 * A code point sequence in a form in which two spellings of one emoji are equal: lower case, no leading zeros ("00a9"),
 * no variation selector (fe0f), which data and picture files put in different places.
 */
export function codePointKey(hexcode: string): string {
  return hexcode
    .toLowerCase()
    .split(/[-_]/)
    .map((point) => point.replace(/^0+/, ""))
    .filter((point) => point !== "fe0f")
    .join("-");
}

const flags = 9;
const component = 2;

/** Why an emoji is no training picture whatever else is there, or undefined if it may be one. */
export function reasonToLeaveOut(
  { hexcode, group, subgroup, label }: EmojiRecord,
  names: GroupNames,
): string | undefined {
  const points = codePointKey(hexcode).split("-");
  if (group === undefined) return "regional indicator";
  if (group === flags) return "flag";
  if (group === component || points.some(isSkinTone)) return "component or skin tone";
  if (names.subgroups[String(subgroup)] === "keycap") return "keycap";
  // 1f550 to 1f567: the twenty-four clock faces, one picture with other hands
  if (points.length === 1 && /^1f5(5[0-9a-f]|6[0-7])$/.test(points[0]!)) return "clock face";
  if (/facing right$/.test(label)) return "direction variant";
  return undefined;
}

const isSkinTone = (point: string) => /^1f3f[b-f]$/.test(point);

/**
 * The keys of the emoji that this one is a gendered or family variant of, most specific first; empty for all others.
 * Two ways to spell gender: a sign at the end (person running + female sign), or a man or woman at the start where the
 * plain form has "person" (woman scientist, person scientist). Couples and families are sequences of several people; the
 * plain form is the single code point for "kiss", "couple with heart" and "family".
 */
export function plainForms(hexcode: string): string[] {
  const points = codePointKey(hexcode).split("-");
  const isGendered = (point: string) => point === "1f468" || point === "1f469";
  const withoutSign = points.join("-").replace(/-200d-(2640|2642)/, "");
  const forms = withoutSign === points.join("-") ? [] : [withoutSign];
  if (points.length > 1 && isGendered(points[0]!)) {
    const people = points.filter((point) => isGendered(point) || point === "1f466" || point === "1f467");
    if (people.length > 1) forms.push(points.includes("1f48b") ? "1f48f" : points.includes("2764") ? "1f491" : "1f46a");
    else forms.push(["1f9d1", ...points.slice(1)].join("-"));
  }
  return forms;
}

export interface Selection<T> {
  kept: T[];
  /** Emoji left out on purpose, by reason. */
  leftOut: Map<string, EmojiRecord[]>;
  /** Emoji that would be kept but have no picture. */
  unmatched: EmojiRecord[];
}

/** The training emoji in Unicode's order, each with its picture file. `files` are names such as "1f600.webp". */
export function selectEmoji(
  records: readonly EmojiRecord[],
  names: GroupNames,
  files: readonly string[],
): Selection<EmojiRecord & { file: string }> {
  const fileOf = new Map(files.map((file) => [codePointKey(file.replace(/\.\w+$/, "")), file]));
  const selection: Selection<EmojiRecord & { file: string }> = { kept: [], leftOut: new Map(), unmatched: [] };
  const leaveOut = (record: EmojiRecord, reason: string) => {
    selection.leftOut.set(reason, [...(selection.leftOut.get(reason) ?? []), record]);
  };
  const inOrder = [...records].sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
  for (const record of inOrder) {
    const reason = reasonToLeaveOut(record, names);
    const file = fileOf.get(codePointKey(record.hexcode));
    if (reason) leaveOut(record, reason);
    else if (plainForms(record.hexcode).some((key) => fileOf.has(key))) leaveOut(record, "gender or family variant");
    else if (!file) selection.unmatched.push(record);
    else selection.kept.push({ ...record, file });
  }
  return selection;
}

/**
 * The rung of training at which a group comes in. 1: faces, animals, nature, food and drink, what people ask for first
 * and what a small model draws best. 2: people, travel, activities, objects. 3: symbols, mostly letters and arrows.
 */
export function rungOf(group: string): 1 | 2 | 3 {
  if (["smileys-emotion", "animals-nature", "food-drink"].includes(group)) return 1;
  return group === "symbols" ? 3 : 2;
}
