/** Packs halfstep once, and installs it with npm into an empty project that the tests share, with the tools that they use. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { npm, root } from "./run.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A folder with node_modules, where every app is a folder below. */
    readonly project: string;
    readonly tarball: string;
    /** What is in the tarball. */
    readonly contents: readonly string[];
  }
}

const tools = [
  "@arethetypeswrong/cli@0.18",
  "@types/express@5",
  "@types/node@20",
  "@types/react@19",
  "create-vite@8",
  "esbuild@0.28",
  "express@5",
  "jest@30",
  "jsdom@29",
  "next@16",
  "publint@0.3",
  "react@19",
  "react-dom@19",
  "typescript@7",
  "vite@8",
  "vitest@4",
  "webpack@5",
  "webpack-cli@6",
];

export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const project = await mkdtemp(join(tmpdir(), "halfstep-package-"));
  const packed = await npm(["pack", "--json", "--pack-destination", project], { cwd: root });
  const [{ filename, files }] = JSON.parse(packed) as [{ filename: string; files: { path: string }[] }];
  const tarball = join(project, filename);
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await npm(["install", "--ignore-scripts", "--no-audit", "--no-fund", tarball, ...tools], { cwd: project });
  // Tools may have brought another version: what users get is checked in an install of its own.
  await readFile(join(project, "node_modules/halfstep/package.json"));
  provide("project", project);
  provide("tarball", tarball);
  provide(
    "contents",
    files.map(({ path }) => path),
  );
  return () => rm(project, { recursive: true });
}
