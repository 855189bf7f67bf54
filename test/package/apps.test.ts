/** The programs of docs/apps.md, word for word: each is built and run with the packed halfstep. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { decode } from "fast-png";
import { afterEach, expect, inject, it } from "vitest";
import { writeApp, writeIn } from "./docs.ts";
import { environment, run } from "./run.ts";

const project = inject("project");
const bin = (name: string) => join(project, "node_modules/.bin", name);
const app = (name: string, heading = name) => writeApp(project, name, "docs/apps.md", heading);

/** What the servers' code does, as a program that ends: the width of a picture, drawn in this thread and in a worker's. */
const draws = `
  import { TextToImagePipeline } from "halfstep";
  for (const worker of [false, true]) {
    const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji", worker ? { worker } : {});
    const { images } = await pipe("a red apple", { steps: 2 });
    console.log(images[0].width);
    await pipe.release();
  }`;

let server: ChildProcess | undefined;
afterEach(() => {
  server?.kill();
  server = undefined;
});

/** Starts a server and gives what `pattern` finds in its output. */
function start(command: string, args: string[], cwd: string, pattern: RegExp, env = {}): Promise<string> {
  const child = spawn(command, args, { cwd, env: environment({ cwd, env }) });
  server = child;
  return new Promise((resolve, reject) => {
    let output = "";
    const read = (data: Buffer) => {
      output += data;
      const found = pattern.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("close", () => reject(new Error(output)));
  });
}

async function expectPicture(url: string): Promise<void> {
  const response = await fetch(url);
  if (response.status !== 200) expect.fail(await response.text());
  expect(response.headers.get("content-type")).toBe("image/png");
  const { width, height } = decode(await response.arrayBuffer());
  expect([width, height]).toEqual([64, 64]);
}

it("Express", async () => {
  const folder = await app("Express");
  const port = await start(process.execPath, ["server.mjs"], folder, /^(\d+)$/m, { PORT: "0" });
  await expectPicture(`http://127.0.0.1:${port}/draw?prompt=a+red+apple`);
});

it("Next.js without settings, in a worker and without one", async () => {
  const folder = await app("next", "Next.js");
  await writeIn(folder, "package.json", '{ "private": true }');
  await writeIn(folder, "app/page.tsx", 'export default () => <img src="/draw" alt="" />;');
  await writeIn(
    folder,
    "app/layout.tsx",
    "export default ({ children }: { children: React.ReactNode }) => <html><body>{children}</body></html>;",
  );
  // The same without a worker.
  const route = await readFile(join(folder, "app/draw/route.ts"), "utf8");
  expect(route).toContain(", { worker: true }");
  await writeIn(folder, "app/here/route.ts", route.replace(", { worker: true }", ""));
  await rm(join(folder, "next.config.mjs"));
  await run(bin("next"), ["build"], { cwd: folder });
  const port = await start(bin("next"), ["start", "--port", "0"], folder, /localhost:(\d+)/);
  for (const path of ["draw", "here"]) await expectPicture(`http://127.0.0.1:${port}/${path}?prompt=a+red+apple`);
});

it("esbuild, halfstep beside the bundle and in it", async () => {
  const folder = join(project, "esbuild");
  await writeIn(folder, "main.mjs", draws);
  const shared = ["main.mjs", "--bundle", "--platform=node", "--format=esm", "--outfile=out.mjs"];
  for (const external of [["halfstep"], ["onnxruntime-node", "sharp"]]) {
    await run(bin("esbuild"), [...shared, ...external.map((name) => `--external:${name}`)], { cwd: folder });
    expect(await run(process.execPath, ["out.mjs"], { cwd: folder })).toBe("64\n64\n");
  }
});

it("webpack", async () => {
  const folder = await app("webpack", "esbuild, webpack and others, for a server");
  await writeIn(folder, "main.mjs", draws);
  await run(bin("webpack"), ["--config", "webpack.config.mjs"], { cwd: folder });
  expect(await run(process.execPath, ["out.mjs"], { cwd: folder })).toBe("64\n64\n");
});

it("TypeScript from CommonJS", async () => {
  const folder = await app("commonjs", "TypeScript from CommonJS");
  for (const module of ["nodenext", "node20"]) {
    const compilerOptions = { module, target: "es2023", strict: true, types: ["node"], outDir: "out" };
    await writeIn(folder, "tsconfig.json", JSON.stringify({ compilerOptions }));
    await run(bin("tsc"), ["-p", "."], { cwd: folder });
    expect(await run(process.execPath, ["out/main.cjs"], { cwd: folder })).toBe("64\n");
  }
});

it("Vitest, where the project's environment is jsdom", async () => {
  const folder = await app("Vitest");
  await run(bin("vitest"), ["run", "--root", ".", "--environment", "jsdom"], { cwd: folder });
});

it("Jest", async () => {
  const folder = await app("Jest");
  await run(bin("jest"), [], { cwd: folder, env: { NODE_OPTIONS: "--experimental-vm-modules" } });
});
