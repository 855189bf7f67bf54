/** Every example in TypeScript compiles against the packed halfstep, and those that need no model of the user's run. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, it } from "vitest";
import { snippets, writeIn } from "./docs.ts";
import { root, run } from "./run.ts";

const project = inject("project");

/** What the examples of a document take for granted. */
const givens: Readonly<Record<string, string>> = {
  "docs/exploration.md": `
    declare const horizon: number, states: number, actions: number, threshold: number, start: number;
    declare const rewards: Float64Array, initial: Float64Array, baseline: Float64Array;
    declare function doIt(state: number, action: number): Promise<{ reward: number; next: number }>;
    declare function save(text: string): Promise<void>;`,
  "docs/streamlined.md": "declare const folder: string;",
  "docs/video.md": "declare const model: string, motionAdapter: string, folder: string;",
};

async function examples(): Promise<Map<string, string>> {
  const documents = (await readdir(join(root, "docs"))).filter((name) => name.endsWith(".md"));
  const found = new Map<string, string>();
  for (const document of ["README.md", ...documents.map((name) => `docs/${name}`)]) {
    const code = (await snippets(document)).filter(({ language, file }) => language === "ts" && file === undefined);
    for (const [i, { code: text }] of code.entries()) {
      const name = `${document.replace(/\W/g, "-")}-${i + 1}.ts`;
      found.set(name, `${givens[document] ?? ""}\n${text}\nexport {};\n`);
    }
  }
  return found;
}

it("compile", async () => {
  const found = await examples();
  expect(found.size).toBeGreaterThan(5);
  const folder = join(project, "snippets");
  for (const [name, code] of found) await writeIn(folder, name, code);
  const compilerOptions = {
    module: "nodenext",
    target: "es2023",
    lib: ["es2023", "dom", "dom.iterable"],
    strict: true,
    noEmit: true,
    types: ["node"],
  };
  await writeIn(folder, "tsconfig.json", JSON.stringify({ compilerOptions, files: [...found.keys()] }));
  await run(join(project, "node_modules/.bin/tsc"), ["-p", "."], { cwd: folder });
});

it("run: the README's", async () => {
  const folder = join(project, "readme");
  for (const { language, file, code } of await snippets("README.md")) {
    if (language !== "ts" || file !== undefined) continue;
    await writeIn(folder, "main.mjs", code);
    await run(process.execPath, ["main.mjs"], { cwd: folder });
  }
  expect(await readdir(folder)).toContain("cat.png");
});
