/**
 * Fluent emoji and their names -> training/data/images.u8, images-256.u8 and training/data/captions.json.
 * Run by `npm run data` in training/, or `npx tsx training/prepare-data.ts` in the root. Same input, same output.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { captionsOf, usefulTags } from "./captions.ts";
import { dominantColour } from "./colour.ts";
import { type EmojiEntry, imageSize, largeSize } from "./data.ts";
import { type EmojiRecord, type GroupNames, rungOf, selectEmoji } from "./emoji.ts";
import { readEmoji } from "./picture.ts";
import { seededRandom, seedOf } from "./random.ts";

const require = createRequire(import.meta.url);
const pictures = path.join(path.dirname(require.resolve("@lobehub/fluent-emoji-3d/package.json")), "assets");
const target = fileURLToPath(new URL("./data/", import.meta.url));

const json = async <T>(name: string) => JSON.parse(await readFile(require.resolve(name), "utf8")) as T;
const records = await json<EmojiRecord[]>("emojibase-data/en/data.json");
const names = await json<GroupNames>("emojibase-data/meta/groups.json");
const { kept, leftOut, unmatched } = selectEmoji(records, names, await readdir(pictures));

const images = new Uint8Array(kept.length * imageSize * imageSize * 3);
const largeImages = new Uint8Array(kept.length * largeSize * largeSize * 3);
const tagLists = usefulTags(
  kept.map(({ tags }) => tags ?? []),
  kept.map(({ label }) => label),
);
const entries: EmojiEntry[] = [];
for (const [i, { label, hexcode, emoji, group, subgroup, file }] of kept.entries()) {
  const { rgb, large, alpha } = await readEmoji(path.join(pictures, file));
  images.set(rgb, i * rgb.length);
  largeImages.set(large, i * large.length);
  const subject = {
    label,
    subgroup: names.subgroups[String(subgroup)] ?? "",
    tags: tagLists[i]!,
    colour: dominantColour(rgb, (pixel) => alpha[pixel]! > 127),
  };
  entries.push({
    hexcode,
    emoji,
    label,
    group: names.groups[String(group)] ?? "",
    subgroup: subject.subgroup,
    rung: rungOf(names.groups[String(group)] ?? ""),
    ...(subject.colour && { colour: subject.colour }),
    captions: captionsOf(subject, seededRandom(seedOf(hexcode))),
  });
}
await mkdir(target, { recursive: true });
await writeFile(path.join(target, "images.u8"), images);
await writeFile(path.join(target, "images-256.u8"), largeImages);
await writeFile(
  path.join(target, "captions.json"),
  `[\n${entries.map((entry) => JSON.stringify(entry)).join(",\n")}\n]\n`,
);
report();

function report(): void {
  const tally = (of: readonly string[]) => {
    const counts = new Map<string, number>();
    for (const name of of) counts.set(name, (counts.get(name) ?? 0) + 1);
    return [...counts].map(([name, count]) => `  ${count} ${name}`).join("\n");
  };
  console.log(`${kept.length} emoji with a picture, by group:\n${tally(entries.map(({ group }) => group))}`);
  console.log(`rungs:\n${tally(entries.map(({ rung }) => `rung ${rung}`))}`);
  console.log(`left out on purpose:\n${[...leftOut].map(([reason, all]) => `  ${all.length} ${reason}`).join("\n")}`);
  console.log(
    `no picture for ${unmatched.length}:\n${unmatched.map(({ label, hexcode }) => `  ${hexcode} ${label}`).join("\n")}`,
  );
  const captions = entries.flatMap((entry) => entry.captions);
  console.log(`${captions.length} captions, ${(captions.length / entries.length).toFixed(1)} an emoji`);
  console.log(`dominant colours:\n${tally(entries.map(({ colour }) => colour ?? "none"))}`);
}
