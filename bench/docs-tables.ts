/** `npm run docs:tables`: writes the figures of bench/results/ into README.md and docs/. */
import { readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { documents, filledDocument } from "./documents.ts";
import { root } from "./result.ts";

for (const file of await documents()) {
  const text = await readFile(file, "utf8");
  const now = filledDocument(text);
  if (now === text) continue;
  await writeFile(file, now);
  console.log(relative(root, file) || join(root, file));
}
