import { chmod, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { checkDestination, writeAnimation } from "../../src/media/animation-node.ts";
import {
  checkFile,
  checkFolder,
  namesAfter,
  numberedNames,
  withSuffix,
  writeWhole,
} from "../../src/media/output-node.ts";
import { temporaryFolder } from "../support/models.ts";

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

const take = (next: () => string, count: number) => Array.from({ length: count }, next);

describe("names", () => {
  it.each([
    ["out.png", ["out.png", "out-2.png", "out-3.png"]],
    ["a.b/out", ["a.b/out", "a.b/out-2", "a.b/out-3"]],
    ["v1.2/", ["v1.2/", "v1.2-2", "v1.2-3"]],
    ["-x.mp4", ["-x.mp4", "-x-2.mp4", "-x-3.mp4"]],
  ])("after %s", (path, names) => expect(take(namesAfter(path), 3)).toEqual(names));

  it("with numbers, and with a word", () => {
    expect(take(numberedNames("a/out.jpg", 12), 2)).toEqual(["a/out-01.jpg", "a/out-02.jpg"]);
    expect(withSuffix("out.webp", "sheet")).toBe("out-sheet.webp");
  });
});

describe("writing a file", () => {
  it("takes the next free name, or replaces, and leaves nothing else behind", async () => {
    const path = join(folder, "out.png");
    const write = (text: string, overwrite: boolean) => writeWhole(path, text, { overwrite });
    expect(await write("first", false)).toBe(path);
    expect(await write("second", false)).toBe(join(folder, "out-2.png"));
    expect(await write("third", true)).toBe(path);
    expect((await readdir(folder)).sort()).toEqual(["out-2.png", "out.png"]);
    expect(await readFile(path, "utf8")).toBe("third");
    expect(await readFile(join(folder, "out-2.png"), "utf8")).toBe("second");
  });

  it("loses nothing when many write under one name at the same time", async () => {
    const texts = Array.from({ length: 40 }, (_, i) => `content ${i}`);
    const path = join(folder, "out.png");
    const names = await Promise.all(texts.map((text) => writeWhole(path, text, { overwrite: false })));
    expect(new Set(names).size).toBe(40);
    expect(await readdir(folder)).toHaveLength(40);
    for (const [i, name] of names.entries()) expect(await readFile(name, "utf8")).toBe(texts[i]);
  });

  it("does not take a link that leads nowhere for a free name", async () => {
    await symlink(join(folder, "elsewhere"), join(folder, "out.png"));
    const name = await writeWhole(join(folder, "out.png"), "x", { overwrite: false });
    expect(name).toBe(join(folder, "out-2.png"));
  });
});

describe("what cannot be written is refused beforehand", () => {
  beforeEach(async () => {
    await writeFile(join(folder, "f"), "");
    await mkdir(join(folder, "d.png"));
    await mkdir(join(folder, "d.gif"));
    await symlink("loop", join(folder, "loop"));
  });

  it.each([
    ["f/x.png", "f is a file, and not a folder."],
    ["f/y/x.png", "a part of the path is a file"],
    ["d.png", "it is a folder, and a file is to be written."],
    ["none/x.png", "there is no folder"],
    ["/dev/null", "it is no ordinary file"],
    [`${"n".repeat(300)}.png`, "the name is too long"],
    ["loop/x.png", "its links go in a circle"],
    ["a\0b.png", "has a zero byte in it"],
  ])("the file %s", async (name, reason) => {
    const error = await checkFile(name.startsWith("/") ? name : join(folder, name)).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain(reason);
  });

  it.each([
    ["f", "it is a file, and not a folder."],
    ["f/a/b", "a part of the path is a file"],
  ])("the folder %s", async (name, reason) => {
    const error = await checkFolder(join(folder, name)).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain(reason);
  });

  it("the animation d.gif", async () => {
    await expect(checkDestination(join(folder, "d.gif"))).rejects.toThrow("it is a folder");
    await expect(checkDestination(join(folder, "f/x.gif"))).rejects.toThrow("f is a file");
    await expect(checkDestination(join(folder, "f/frames"))).rejects.toThrow("f is a file");
  });

  it("leaves nothing behind where it can be written", async () => {
    await checkFile(join(folder, "x.png"));
    await checkFolder(join(folder, "new/deep"));
    expect((await readdir(folder)).sort()).toEqual(["d.gif", "d.png", "f", "loop"]);
  });
});

describe("a folder without permission", () => {
  // The superuser may write anywhere, so these run as nobody where tests run as root.
  beforeEach(async () => {
    await chmod(folder, 0o555);
    if (process.getuid?.() === 0) process.seteuid!(65_534);
  });
  afterEach(() => {
    if (process.getuid?.() === 0) process.seteuid!(0);
  });

  it("is refused beforehand", async () => {
    const reason = "you have no permission to write there";
    await expect(checkFile(join(folder, "x.png"))).rejects.toThrow(reason);
    await expect(checkFolder(join(folder, "new"))).rejects.toThrow(reason);
    await expect(checkDestination(join(folder, "x.gif"))).rejects.toThrow(reason);
    await expect(writeWhole(join(folder, "x.png"), "", { overwrite: true })).rejects.toThrow(ArgumentError);
  });
});

it("an animation takes the next free name when it is not to replace", async () => {
  const frame = { width: 2, height: 2, data: new Uint8Array(12) };
  const animation = { frames: [frame, frame], fps: 5 };
  for (const out of ["a.gif", "frames/"]) {
    await writeAnimation(join(folder, out), animation, { overwrite: false });
    await writeAnimation(join(folder, out), animation, { overwrite: false });
  }
  expect((await readdir(folder)).sort()).toEqual(["a-2.gif", "a.gif", "frames", "frames-2"]);
  expect(await readdir(join(folder, "frames-2"))).toEqual(["0001.png", "0002.png"]);
});
