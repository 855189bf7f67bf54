/** `npm init -y && npm install halfstep && npx halfstep generate "a red apple"`, for real, as a new user would. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode } from "fast-png";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { npm, root, run, runAll, type Settings } from "./run.ts";

const system = process.platform === "win32" ? "win" : process.platform;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-install-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** The folder of a release of Node, which npm has as a package for each system. */
async function nodeOf(version: number): Promise<string> {
  const cwd = await mkdtemp(join(folder, `node-${version}-`));
  const name = `node-${system}-${process.arch}`;
  await npm(["install", "--ignore-scripts", "--no-save", `${name}@${version}`], { cwd });
  return join(cwd, "node_modules", name, "bin");
}

async function install(settings: Omit<Settings, "cwd">, ...options: string[]): Promise<Settings> {
  const cwd = await mkdtemp(join(folder, "user-"));
  const all = { ...settings, cwd };
  await npm(["init", "-y"], all);
  await npm(["install", ...options, inject("tarball")], all);
  return all;
}

/** Folders with a package.json at the places where npm puts packages. */
async function packages({ cwd }: Settings): Promise<string[]> {
  const lock = JSON.parse(await readFile(join(cwd, "node_modules/.package-lock.json"), "utf8")) as {
    packages: Record<string, unknown>;
  };
  return Object.keys(lock.packages);
}

async function draw(settings: Settings): Promise<string> {
  const { stdout, stderr } = await runAll("npx", ["halfstep", "generate", "a red apple", "--steps", "4"], settings);
  expect(stdout + stderr).toContain("out.png");
  const { width, height, text } = decode(await readFile(join(settings.cwd, "out.png")));
  expect([width, height, text["prompt"]]).toEqual([64, 64, "a red apple"]);
  return stderr;
}

/** A row of docs/install.md: how many packages it says. */
async function documented(command: string): Promise<number> {
  const table = await readFile(join(root, "docs/install.md"), "utf8");
  const row = table.split("\n").find((line) => line.startsWith(`| ${command} |`));
  return Number(row?.split("|")[2]);
}

describe.each([20, 22, 24])("on Node %i", (version) => {
  let node: string;
  beforeAll(async () => {
    node = await nodeOf(version);
  });

  it("is installed without scripts, computes natively and leaves nothing in the user's home", async () => {
    const settings = await install({ node }, "--ignore-scripts");
    expect(await run("node", ["--version"], settings)).toMatch(new RegExp(`^v${version}\\.`));
    expect(await draw(settings)).not.toContain("WebAssembly");
    if (process.platform === "linux" && process.arch === "x64") {
      expect(await packages(settings)).toHaveLength(await documented("`npm install halfstep --ignore-scripts`"));
    }
    expect((await packages(settings)).length).toBeLessThanOrEqual(60);

    const home = await mkdtemp(join(folder, "home-"));
    const command = join(settings.cwd, "node_modules/halfstep/dist/cli.js");
    await run("node", [command, "generate", "a red apple", "--steps", "1"], { ...settings, env: { HOME: home } });
    expect(await readdir(home)).toEqual([]);
  });
});

it("is installed where the download of CUDA fails, and computes with WebAssembly", async () => {
  const settings = await install({});
  // Elsewhere than on Linux x64 nothing is downloaded.
  const native = (await packages(settings)).includes("node_modules/onnxruntime-node");
  expect(native).toBe(process.platform !== "linux" || process.arch !== "x64");
  const warnings = await draw(settings);
  if (!native) expect(warnings).toContain("npm install onnxruntime-node --ignore-scripts");
});

describe("without what is optional", () => {
  let settings: Settings;
  beforeAll(async () => {
    settings = await install({}, "--omit=optional");
  });

  it("has what a page needs", async () => {
    const names = await packages(settings);
    expect(names).toContain("node_modules/onnxruntime-web");
    expect(names).not.toContain("node_modules/onnxruntime-node");
    expect(names).not.toContain("node_modules/sharp");
    expect(names).toHaveLength(await documented("`npm install halfstep --omit=optional`"));
  });

  it.each([
    [
      ["explore", "run", "--env", "random", "--algorithms", "dope", "--episodes", "1", "--seeds", "1"],
      "npm install highs",
    ],
    [["generate", "a red apple", "--steps", "1", "--out", "apple.jpg"], "npm install --include=optional sharp"],
    [["generate", "a red apple", "--provider", "cuda"], "onnxruntime-node"],
  ])("says by name what %j needs", async (args, needed) => {
    const outcome = run("npx", ["halfstep", ...args], settings);
    await expect(outcome).rejects.toThrow(needed);
    await expect(outcome).rejects.not.toThrow(/^\s+at /m);
  });
});
