import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { FolderLock } from "../../src/cli/folder-lock.ts";
import { writeWhole } from "../../src/cli/whole-file.ts";
import { ArgumentError } from "../../src/errors.ts";
import { root } from "../support/cli.ts";
import { explore } from "../support/explore.ts";

const newFolder = () => mkdtemp(join(tmpdir(), "halfstep-"));
const args = ["--env", "random:states=3,actions=2", "--seeds", "2", "--algorithms", "stepmix"];
const small = [...args, "--episodes", "60", "--workers", "0"];

/** The command in a process of its own; `redirect` is shell. */
function start(parameters: readonly string[], { redirect = "", env = {} as Record<string, string> } = {}) {
  const command = `exec "$0" --import tsx "${join(root, "src/cli/main.ts")}" explore run "$@" ${redirect}`;
  const child = spawn("sh", ["-c", command, process.execPath, ...parameters], {
    cwd: root,
    env: { ...process.env, ...env },
  });
  let stderr = "";
  child.stderr.on("data", (data) => (stderr += data));
  child.stdout.resume();
  const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
    child.on("close", (code) => resolve({ code, stderr })),
  );
  return { child, ended };
}

/** A process that has ended. */
async function deadProcess(): Promise<number> {
  const child = spawn(process.execPath, ["-e", ""]);
  await new Promise((resolve) => child.on("close", resolve));
  return child.pid!;
}

describe("the lock of a folder", () => {
  const holder = (more: object) =>
    JSON.stringify({
      pid: process.pid,
      host: hostname(),
      since: "2026-01-01T00:00:00Z",
      began: null,
      id: "x",
      ...more,
    });

  it("is one process's, says whose, and is free when it is released", async () => {
    const folder = await newFolder();
    const lock = await FolderLock.take(folder);
    const words = expect.objectContaining({
      message: expect.stringMatching(`process ${process.pid} on ${hostname()}`),
    });
    await expect(FolderLock.take(folder)).rejects.toThrow(ArgumentError);
    await expect(FolderLock.take(folder)).rejects.toEqual(words);
    await lock.check();
    await FolderLock.shared(lock.shareable).check();
    await lock.release();
    await (await FolderLock.take(folder)).release();
    expect(await readdir(folder)).toEqual([]);
  });

  it("is taken over from a process that died, and from one whose number another has now", async () => {
    const folder = await newFolder();
    for (const dead of [{ pid: await deadProcess() }, { began: "another boot 1" }]) {
      await writeFile(join(folder, "run.lock"), holder(dead));
      const lock = await FolderLock.take(folder).catch((error: Error) => error);
      // Where the system does not tell when a process began, a living number is believed.
      if (lock instanceof Error && "began" in dead && !existsSync("/proc/self/stat")) continue;
      expect(lock).toBeInstanceOf(FolderLock);
      await (lock as FolderLock).release();
      expect(await readdir(folder)).toEqual([]);
    }
  });

  it.each([
    ["another machine's", holder({ host: "elsewhere", pid: 1 })],
    ["a living process's", holder({})],
    ["one without a number", holder({ pid: "1" })],
    ["one that is being written", ""],
    ["something else", "null"],
  ])("is not taken from %s", async (_, text) => {
    const folder = await newFolder();
    await writeFile(join(folder, "run.lock"), text);
    await expect(FolderLock.take(folder)).rejects.toThrow(/in use/);
    expect(await readFile(join(folder, "run.lock"), "utf8")).toBe(text);
  });

  it("goes to one of many who find a dead process's", async () => {
    for (let round = 0; round < 20; round++) {
      const folder = await newFolder();
      await writeFile(join(folder, "run.lock"), holder({ pid: 2 ** 30 }));
      const tries = await Promise.allSettled(Array.from({ length: 8 }, () => FolderLock.take(folder)));
      const held = tries.flatMap((tried) => (tried.status === "fulfilled" ? [tried.value] : []));
      const checks = await Promise.allSettled(held.map((lock) => lock.check()));
      expect(checks.filter(({ status }) => status === "fulfilled").length).toBe(1);
    }
  });

  it("that was lost stops what would be written", async () => {
    const folder = await newFolder();
    const lock = await FolderLock.take(folder);
    await writeFile(lock.file, holder({ host: "elsewhere" }));
    await expect(lock.check()).rejects.toThrow(/not this run's any more: process .* on elsewhere/);
    await lock.release();
    expect(existsSync(lock.file)).toBe(true);
  });
});

describe("a file that is written whole", () => {
  it("holds one of the contents that many write at once, and leaves nothing beside it", async () => {
    const folder = await newFolder();
    const contents = Array.from({ length: 30 }, (_, i) => String(i).repeat(100_000));
    await Promise.all(contents.map((content) => writeWhole(join(folder, "file"), content)));
    expect(contents).toContain(await readFile(join(folder, "file"), "utf8"));
    expect(await readdir(folder)).toEqual(["file"]);
  });

  it("leaves nothing where it cannot be", async () => {
    const folder = await newFolder();
    await mkdir(join(folder, "file"));
    await expect(writeWhole(join(folder, "file"), "text")).rejects.toThrow();
    expect(await readdir(folder)).toEqual(["file"]);
  });
});

describe("halfstep explore run --out", () => {
  it("is refused at once where no folder can be", async () => {
    const file = join(await newFolder(), "file");
    await writeFile(file, "");
    // Before the environment is read, which is not there.
    for (const out of [file, join(file, "inner"), ""]) {
      await expect(explore("run", ...small, "--env", "nowhere", "--out", out)).rejects.toThrow(/--out/);
    }
    await expect(explore("run", ...small, "--env", "nowhere", "--out", join(await newFolder(), "a/b"))).rejects.toThrow(
      /no environment/,
    );
  });

  it("refuses a trial that was edited, whatever was edited", async () => {
    const out = await newFolder();
    await explore("run", ...small, "--out", out);
    const file = join(out, "trials", "stepmix-1.json");
    const text = await readFile(file, "utf8");
    for (const [from, to] of [
      ['"count":60', '"count":59'],
      ['"threshold":1', '"threshold":0'],
      [/"seconds":[\d.e-]+/, '"seconds":0'],
      [/"checksum":"sha256:./, '"checksum":"sha256:z'],
      [/,"checksum":"[^"]*"/, ""],
      ["}", ""],
    ] as const) {
      const edited = text.replace(from, to);
      expect(edited).not.toBe(text);
      await writeFile(file, edited);
      await expect(explore("run", ...small, "--out", out), edited).rejects.toThrow(/stepmix-1.json is not/);
    }
    // Spaces are not content.
    await writeFile(file, JSON.stringify(JSON.parse(text), null, 1));
    await explore("run", ...small, "--out", out);
    for (const settings of ["null", "[]", "{", "5"]) {
      await writeFile(join(out, "settings.json"), settings);
      await expect(explore("run", ...small, "--out", out)).rejects.toThrow(ArgumentError);
    }
    expect(existsSync(join(out, "run.lock"))).toBe(false);
  });

  it("is one process's; a killed one's trials are gone on with, and what it was writing is removed", async () => {
    const out = await newFolder();
    const long = [...args, "--episodes", "12000", "--workers", "2", "--out", out];
    const first = start(long);
    while (!existsSync(join(out, "run.lock"))) await sleep(20);
    await sleep(200);
    await expect(explore("run", ...long)).rejects.toThrow(`in use: process ${first.child.pid} on ${hostname()}`);
    first.child.kill("SIGKILL");
    await first.ended;
    await writeFile(join(out, "trials", "stepmix-0.json.1-ab.part"), "half");
    await explore("run", ...long);
    const whole = await newFolder();
    await explore("run", ...long.slice(0, -1), whole);
    expect(await readFile(join(out, "episodes.jsonl"), "utf8")).toBe(
      await readFile(join(whole, "episodes.jsonl"), "utf8"),
    );
    expect((await readdir(join(out, "trials"))).sort()).toEqual(["stepmix-0.json", "stepmix-1.json"]);
    expect((await readdir(out)).filter((name) => /lock|part/.test(name))).toEqual([]);
  });

  it("saves and lets go of the folder when it is told to end", async () => {
    const out = await newFolder();
    const run = start([...args, "--episodes", "1000000", "--workers", "2", "--out", out]);
    while (!existsSync(join(out, "run.lock"))) await sleep(20);
    await sleep(2000);
    run.child.kill("SIGINT");
    const { code, stderr } = await run.ended;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain("goes on from here");
    expect(existsSync(join(out, "run.lock"))).toBe(false);
    const trial = JSON.parse(await readFile(join(out, "trials", "stepmix-0.json"), "utf8"));
    expect(trial.learner.episodes).toBeGreaterThan(0);
  });
});

describe("halfstep explore run without --out", () => {
  it("leaves no folder behind, whether it succeeds, is refused or fails to print", async () => {
    const folder = await newFolder();
    const env = { TMPDIR: folder };
    const full = existsSync("/dev/full");
    const runs = [
      start(small, { env }),
      start([...small, "--threshold", "2.9"], { env }),
      ...(full ? [start([...small, "--json"], { env, redirect: "> /dev/full" })] : []),
    ];
    const [good, refused, unprinted] = await Promise.all(runs.map(({ ended }) => ended));
    expect(good!.code, good!.stderr).toBe(0);
    expect(refused!.code).toBe(1);
    expect(refused!.stderr).toMatch(/ArgumentError: .*below the threshold/);
    if (full) expect([unprinted!.code, unprinted!.stderr]).toEqual([1, expect.stringContaining("ENOSPC")]);
    expect((await readdir(folder)).filter((name) => name.startsWith("halfstep"))).toEqual([]);
  });
});
