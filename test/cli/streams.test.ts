import { spawn } from "node:child_process";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { root } from "../support/cli.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const command = ["--import", "tsx", join(root, "src/cli/main.ts")];

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  model = (await writeTinyPipeline(join(folder, "model"), "pixart")).path;
});

interface Ended {
  code: number | null;
  said: string;
}

/** A command in a process of its own; `stdout` is a file's descriptor, or a pipe that `onStdout` is given. */
function run(args: string[], stdout: number | "pipe", onStdout?: (child: ReturnType<typeof spawn>) => void) {
  return new Promise<Ended>((resolve) => {
    const child = spawn(process.execPath, [...command, ...args], { cwd: root, stdio: ["ignore", stdout, "pipe"] });
    let said = "";
    child.stderr!.on("data", (part) => {
      said += part;
    });
    onStdout?.(child);
    child.on("close", (code) => resolve({ code, said }));
  });
}

describe("a disk that is full", () => {
  it.each([
    ["info --json", () => ["info", model, "--json"]],
    ["info", () => ["info", model]],
  ])("makes %s fail, in a line", async (_, args) => {
    const full = await open("/dev/full", "w");
    const { code, said } = await run(args(), full.fd);
    await full.close();
    expect(code).toBe(1);
    expect(said).toMatch(/^\w*Error: .*no space left on device.*\n$/);
  });
});

describe("a reader that goes away", () => {
  it("ends a command quietly", async () => {
    // More than a pipe holds, so that the command must notice.
    const args = ["completion", "fish"];
    const { code, said } = await run(args, "pipe", (child) => {
      child.stdout!.destroy();
    });
    expect({ code, said }).toEqual({ code: 0, said: "" });
  });
});

describe("what is said where nobody watches", () => {
  const args = (...more: string[]) => [
    "generate",
    "a cat",
    "--model",
    model,
    "--steps",
    "2",
    "--threads",
    "1",
    ...more,
  ];

  it("is what is being done, at once, and how far it is; the result is on stdout", async () => {
    const { stdout, stderr } = await halfstepHere(...args("--out", join(folder, "a.png"), "--seed", "3"));
    expect(stderr.split("\n").slice(0, 2)).toEqual([`loading ${model}`, "1/2 steps"]);
    expect(stdout).toMatch(/^.*a\.png \(seed 3, [\d.]+ s\)\n$/);
  });

  it("is nothing with --quiet, but for errors", async () => {
    const made = await halfstepHere(...args("--out", join(folder, "b.png"), "--quiet"));
    expect(made).toMatchObject({ code: 0, stdout: "", stderr: "" });
    const refused = await halfstepHere(...args("--out", join(folder, "none/b.png"), "--quiet"));
    expect(refused.stderr).toMatch(/^ArgumentError: --out .*there is no folder/);
  });

  it("does not steer the terminal, whatever a name says", async () => {
    const { stderr } = await halfstepHere("info", "\u001b[2Jnope\u0007");
    expect(stderr).toContain("\\x1b[2Jnope\\x07");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there.
    expect(stderr).not.toMatch(/[\x00-\x08\x0b-\x1f]/);
  });
});

it("an unexpected error is a line without a stack, and has one with --debug", async () => {
  const { fail } = await import("../../src/cli/failure.ts");
  const { halfstepProgram } = await import("../../src/cli/program.ts");
  const said = async (debug: boolean) => {
    const before = process.argv;
    process.argv = debug ? [...before, "--debug"] : before;
    const lines: string[] = [];
    const { write } = process.stderr;
    process.stderr.write = ((text: string) => lines.push(text) > 0) as typeof write;
    try {
      expect(fail(new TypeError("x is not a function"), halfstepProgram())).toBe(1);
    } finally {
      process.stderr.write = write;
      process.argv = before;
    }
    return lines.join("");
  };
  expect(await said(false)).toMatch(
    /^TypeError: x is not a function\nThis is a fault in halfstep\. HALFSTEP_DEBUG=1 shows/,
  );
  expect(await said(true)).toContain("streams.test.ts");
});

it("Ctrl-C leaves the pictures that are finished, and says which", async () => {
  const args = ["generate", "a cat", "--model", model, "--steps", "40", "--count", "256", "--width", "64", "--height"];
  const out = await temporaryFolder();
  let interrupted = false;
  const { code, said } = await run([...args, "64", "--json", "--out", join(out, "x.png")], "pipe", (child) => {
    const timer = setInterval(async () => {
      if (interrupted || !(await readdir(out)).some((name) => name.startsWith("x-"))) return;
      interrupted = true;
      clearInterval(timer);
      child.kill("SIGINT");
    }, 50);
  });
  const files = await readdir(out);
  // It may have come to its end first.
  if (code === 0) expect(files).toHaveLength(257);
  else {
    expect(code).toBe(130);
    expect(said).toContain(`Interrupted: ${files.length} of 256 pictures were written: `);
    expect(files.every((name) => /^x-\d{3}\.png$/.test(name))).toBe(true);
  }
});
