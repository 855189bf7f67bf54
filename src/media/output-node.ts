/** Output files: checked before the work starts, and written whole or not at all. */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { copyFile, link, mkdtemp, open, readdir, rename, rm, rmdir, stat, statfs, writeFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { ArgumentError } from "../errors.ts";

/** Most files of one name: more than anybody looks through. */
const MOST_NAMES = 100_000;

/** The names to try when a name is taken. */
export type NextName = () => string;

/** out.png, out-2.png, out-3.png, ...; of a folder out, out-2, ... */
export function namesAfter(path: string): NextName {
  let number = 0;
  return () => (++number === 1 ? path : withNumber(path, String(number)));
}

/** out-1.png, out-2.png, ... with as many digits as the last of `count` has. */
export function numberedNames(path: string, count: number): NextName {
  const digits = String(count).length;
  let number = 0;
  return () => withNumber(path, String(++number).padStart(digits, "0"));
}

/** out.png and "sheet" are out-sheet.png; a name that ends in a slash is a folder's, which has no ending. */
export function withSuffix(path: string, suffix: string): string {
  const plain = path.replace(/[\\/]+$/, "");
  const ending = plain === path ? extname(path) : "";
  return `${plain.slice(0, plain.length - ending.length)}-${suffix}${ending}`;
}

function withNumber(path: string, number: string): string {
  if (Number(number) <= MOST_NAMES) return withSuffix(path, number);
  throw new ArgumentError(`${path}: there are ${MOST_NAMES} files of that name already, which is the most.`);
}

/**
 * Throws ArgumentError where a file of this name cannot be written: no such folder, a folder of that name, no permission, a
 * name that is too long. Whether a file may be made there is tried, since permissions alone do not tell.
 */
export async function checkFile(path: string): Promise<void> {
  await checkParent(path);
  const there = await statOf(path);
  if (there?.isDirectory()) throw new ArgumentError(`${path}: it is a folder, and a file is to be written.`);
  if (there && !there.isFile()) throw new ArgumentError(`${path}: it is no ordinary file, and is not replaced.`);
  const probe = join(dirname(path), temporaryName());
  await refusing(path, async () => (await open(probe, "wx")).close());
  await rm(probe, { force: true });
}

/** The same for a folder, which is made with those above it if it is not there. */
export async function checkFolder(path: string): Promise<void> {
  checkName(path);
  const existing = await existingPart(path);
  if (!(await statOf(existing))!.isDirectory()) {
    throw new ArgumentError(`${path}: ${existing === path ? "it" : existing} is a file, and not a folder.`);
  }
  const probe = await refusing(path, () => mkdtemp(join(existing, temporaryName())));
  await rmdir(probe);
}

/** Bytes that are free where `path` is, or is to be; infinite where the file system does not say. */
export async function freeSpace(path: string): Promise<number> {
  const { bavail, bsize, blocks } = await statfs(await existingPart(path));
  return blocks > 0 ? bavail * bsize : Number.POSITIVE_INFINITY;
}

/** A path, or the nearest folder above it that is there. */
async function existingPart(path: string): Promise<string> {
  let existing = path;
  for (let there = await statOf(existing); !there; there = await statOf(existing)) existing = dirname(existing);
  return existing;
}

/** Throws ArgumentError unless the folder that `path` is to be in is there. */
export async function checkParent(path: string): Promise<void> {
  checkName(path);
  const folder = dirname(path);
  const there = await statOf(folder, path);
  if (!there) throw new ArgumentError(`${path}: there is no folder ${folder}.`);
  if (!there.isDirectory()) throw new ArgumentError(`${path}: ${folder} is a file, and not a folder.`);
}

/** Whether there is nothing of this name, or an empty folder. */
export async function isFreeFolder(path: string): Promise<boolean> {
  const there = await statOf(path);
  return !there || (there.isDirectory() && (await readdir(path)).length === 0);
}

/** A name beside `path` for what is not finished; short, so that it is possible where `path` is. */
export const temporaryBeside = (path: string): string => join(dirname(path), temporaryName());

const temporaryName = () => `.halfstep-${process.pid}-${randomBytes(4).toString("hex")}.tmp`;

export interface WriteOptions {
  /** Put it in the place of what has this name, instead of taking the next free one. */
  overwrite: boolean;
  /** The names; `namesAfter(path)` unless given. */
  next?: NextName;
}

/**
 * Writes a file like `path`, in its folder. Its name comes into being when all of it is written. Returns the name; throws
 * ArgumentError where it cannot be written.
 */
export async function writeWhole(
  path: string,
  bytes: Uint8Array | string,
  { overwrite, next = namesAfter(path) }: WriteOptions,
): Promise<string> {
  const temporary = temporaryBeside(path);
  try {
    await refusing(path, () => writeFile(temporary, bytes, { flag: "wx" }));
    return await place(temporary, next, overwrite);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Gives a finished file or folder the first free name, or the first with `overwrite`. A folder replaces an empty one alone. */
export async function place(temporary: string, next: NextName, overwrite: boolean): Promise<string> {
  const isFolder = (await stat(temporary)).isDirectory();
  for (;;) {
    const name = next();
    const placed = await refusing(name, () => {
      if (isFolder) return placeFolder(temporary, name);
      return overwrite ? replaceFile(temporary, name) : placeFile(temporary, name);
    });
    if (placed) return name;
  }
}

/** Anything but a folder is replaced. */
async function replaceFile(temporary: string, name: string): Promise<boolean> {
  try {
    await rename(temporary, name);
    return true;
  } catch (error) {
    if (["EISDIR", "EEXIST", "ENOTEMPTY"].includes(codeOf(error))) return false;
    throw error;
  }
}

/** A second name for the file: it fails where there is one already, whoever made it in the meantime. */
async function placeFile(temporary: string, name: string): Promise<boolean> {
  try {
    await link(temporary, name).catch((error) => {
      if (codeOf(error) === "EEXIST") throw error;
      // Some file systems have no links.
      return copyFile(temporary, name, constants.COPYFILE_EXCL);
    });
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
  await rm(temporary, { force: true });
  return true;
}

async function placeFolder(temporary: string, name: string): Promise<boolean> {
  const plain = name.replace(/[\\/]+$/, "");
  if (!(await isFreeFolder(plain))) return false;
  try {
    // Windows does not rename onto a folder, not even an empty one.
    await rmdir(plain).catch((error) => {
      if (codeOf(error) !== "ENOENT") throw error;
    });
    await rename(temporary, plain);
    return true;
  } catch (error) {
    if (["EEXIST", "ENOTEMPTY", "ENOTDIR"].includes(codeOf(error))) return false;
    throw error;
  }
}

/** An error of the file system, as an ArgumentError in plain words. */
async function refusing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const code = codeOf(cause);
    if (code === "") throw cause;
    throw new ArgumentError(`${path}: cannot be written: ${reasons.get(code) ?? (cause as Error).message}.`, { cause });
  }
}

const reasons = new Map([
  ["EACCES", "you have no permission to write there"],
  ["EPERM", "you have no permission to write there"],
  ["EROFS", "the file system is read-only"],
  ["ENOSPC", "there is no space left"],
  ["EDQUOT", "your quota is used up"],
  ["ENAMETOOLONG", "the name is too long"],
  ["ENOTDIR", "a part of the path is a file, and not a folder"],
  ["ENOENT", "there is no such folder"],
  ["ELOOP", "its links go in a circle"],
  ["EISDIR", "it is a folder"],
]);

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && "syscall" in error ? String(error.code) : "";

function checkName(path: string): void {
  if (path === "") throw new ArgumentError("has no name.");
  if (path.includes("\0")) throw new ArgumentError(`${JSON.stringify(path)} has a zero byte in it.`);
}

/** Null where there is nothing of that name; `subject` is what messages are about. */
async function statOf(path: string, subject = path) {
  return refusing(subject, () =>
    stat(path).catch((error) => {
      if (codeOf(error) === "ENOENT") return null;
      throw error;
    }),
  );
}
