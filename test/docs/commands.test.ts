/** Every command in the documentation and in --help is one that there is, with options and values that it takes. Nothing is run. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import type { Command } from "commander";
import { expect, it } from "vitest";
import { documents } from "../../bench/documents.ts";
import { root } from "../../bench/result.ts";
import packageJson from "../../package.json" with { type: "json" };
import { examples } from "../../src/cli/help.ts";
import { halfstepProgram } from "../../src/cli/program.ts";
import training from "../../training/package.json" with { type: "json" };

const files = [...(await documents()), join(root, "examples/README.md")].map((file) => relative(root, file));

/** Of a clone, of training/, and of the project that docs/browser.md begins with. */
const scripts = new Set([...Object.keys(packageJson.scripts), ...Object.keys(training.scripts), "dev"]);

/** Programs in a shell's line, as lists of words: what is between pipes and the like, without comments and redirections. */
function programsOf(line: string): string[][] {
  const programs: string[][] = [[]];
  for (const [word] of line.matchAll(/#.*$|(?:[^\s"'|&;<>]|"[^"]*"|'[^']*')+|[|&;<>]+/g)) {
    if (word.startsWith("#")) break;
    if (/^[|&;]+$/.test(word)) programs.push([]);
    else programs.at(-1)!.push(word.replaceAll(/["']/g, ""));
  }
  return programs.map((words) => {
    const end = words.findIndex((word) => /^[<>]+$/.test(word));
    const plain = end < 0 ? words : words.slice(0, end);
    const start = plain.findIndex((word) => word !== "$" && word !== "npx" && !/^[A-Z_]+=/.test(word));
    return start < 0 ? [] : plain.slice(start);
  });
}

/** The programs in the blocks of code that are a shell's, and in a document's inline code. */
function shellOf(text: string): string[][] {
  const found: string[] = [];
  // Between fences every second part is code, which begins with its language.
  for (const [i, part] of text.split(/^ *```/m).entries()) {
    if (i % 2 === 0) found.push(...[...part.matchAll(/`((?:npx |npm )[^`]+)`/g)].map(([, code]) => code!));
    else if (/^(sh|bash)?\n/.test(part)) found.push(part.slice(part.indexOf("\n")));
  }
  const lines = found.flatMap((code) => code.replaceAll(/\\\n\s*/g, " ").split("\n"));
  return lines.flatMap(programsOf);
}

/** Commander's own reading, with nothing behind it. */
async function read(words: readonly string[]): Promise<string> {
  const program = halfstepProgram();
  let ran = "";
  const still = (command: Command, path: string): void => {
    if (command.commands.length === 0) {
      command.action(() => {
        ran = path;
      });
    }
    for (const each of command.commands) still(each, `${path} ${each.name()}`.trim());
  };
  still(program, "");
  await program.parseAsync([...words], { from: "user" });
  return ran;
}

async function check(programs: readonly string[][]): Promise<string[]> {
  const wrong: string[] = [];
  for (const [program, ...args] of programs) {
    const said = [program, ...args].join(" ");
    if (program === "halfstep" && args.length > 0 && !args.includes("--help") && args[0] !== "help") {
      await read(args).catch((error: Error) => wrong.push(`${said}: ${error.message}`));
    }
    const script =
      program === "npm" && args[0] === "run" ? args.find((word, i) => i > 0 && !word.startsWith("-")) : undefined;
    if (script !== undefined && !scripts.has(script)) wrong.push(`${said}: no such script`);
    const file = program === "tsx" || (program === "vite" && args[0]?.includes("/")) ? args[0] : undefined;
    if (file !== undefined && !existsSync(join(root, file))) wrong.push(`${said}: no such file`);
  }
  return wrong;
}

it.each(files)("%s", async (file) => {
  expect(await check(shellOf(await readFile(join(root, file), "utf8")))).toEqual([]);
});

it("--help", async () => {
  const paths: string[] = [""];
  const walk = (command: Command, path: string): void => {
    for (const each of command.commands) {
      const below = `${path} ${each.name()}`.trim();
      paths.push(below);
      walk(each, below);
    }
  };
  walk(halfstepProgram(), "");
  const lines = paths
    .map((path) => examples(path.split(" ")))
    .join("\n")
    .replaceAll(/\\\n\s*/g, " ")
    .split("\n");
  const programs = lines.flatMap((line) => programsOf(line.trim())).filter(([program]) => program === "halfstep");
  expect(programs.length).toBeGreaterThan(20);
  expect(await check(programs)).toEqual([]);
});

it("finds what is wrong", async () => {
  const text =
    '```\nnpx halfstep generate "a|b" --stepz 3 | cat\nA=1 halfstep info x\nnpm run nothing\n```\n`npx tsx examples/none.ts`';
  const wrong = await check(shellOf(text));
  expect(wrong.map((each) => each.split(":")[0])).toEqual([
    "halfstep generate a|b --stepz 3",
    "npm run nothing",
    "tsx examples/none.ts",
  ]);
});
