/** Animations to files: GIF and WebP with sharp, MP4 with ffmpeg where it is installed, or a folder of PNG files. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { flag, signal as signalCheck, text as textCheck, texts } from "../checks.ts";
import { ArgumentError, ToolError } from "../errors.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import {
  type Animation,
  animationFormat,
  asciiOnly,
  checkAnimation,
  frameDelays,
  withGifComment,
} from "./animation.ts";
import {
  checkFile,
  checkParent,
  isFreeFolder,
  type NextName,
  namesAfter,
  place,
  temporaryBeside,
} from "./output-node.ts";
import { encodePng } from "./picture.ts";
import { describedIn } from "./picture-node.ts";
import { loadSharp } from "./sharp-node.ts";

/** Well under what systems allow in one argument of a program. */
const MOST_COMMENT = 20_000;

/** How `writeAnimation` writes a file. */
export interface WriteAnimationOptions {
  /** Text that is stored in the file if the format has a place for it: prompt, seed, settings. */
  text?: Readonly<Record<string, string>>;
  /** When it is aborted, nothing is left behind and its reason is thrown. */
  signal?: AbortSignal;
  /** The program that makes MP4 files; "ffmpeg", as the system finds it, unless given. */
  ffmpeg?: string;
  /** False takes the next free name (a.gif, a-2.gif, ...) where there is a file already, instead of replacing it. */
  overwrite?: boolean;
}

const writeAnimationOptions: OptionTable<WriteAnimationOptions> = {
  text: texts,
  signal: signalCheck,
  ffmpeg: textCheck,
  overwrite: flag,
};

/**
 * Writes an animation; the name says the format (`animationFormat`). A file of that name is replaced unless `overwrite` is
 * false; a folder must be new or empty. The name comes into being when all of it is written. Returns the files. Throws
 * ArgumentError for frames and names that cannot be, and where they cannot be written, ToolError where ffmpeg or sharp's
 * binary is missing or fails.
 */
export async function writeAnimation(
  out: string,
  animation: Animation,
  options: WriteAnimationOptions = {},
): Promise<string[]> {
  const read = readOptions(options, writeAnimationOptions, { of: "writeAnimation" });
  const { ffmpeg = "ffmpeg", overwrite = true } = read;
  checkAnimation(animation, animationFormat(out));
  await checkDestination(out, { ffmpeg, overwrite });
  return writeAnimationAs(out, namesAfter(out), animation, read);
}

/** The same under the next free name of `next`, beside `out` and in its format. */
export async function writeAnimationAs(
  out: string,
  next: NextName,
  animation: Animation,
  { text = {}, signal, ffmpeg = "ffmpeg", overwrite = true }: WriteAnimationOptions,
): Promise<string[]> {
  const format = animationFormat(out);
  checkAnimation(animation, format);
  const temporary = temporaryBeside(out.replace(/[\\/]+$/, ""));
  try {
    signal?.throwIfAborted();
    let frames: string[] | undefined;
    if (format === "frames") frames = await writeFrames(temporary, animation, text);
    else if (format === "mp4") await runFfmpeg(ffmpeg, temporary, animation, text, signal);
    else await writeFile(temporary, await encodeAnimation(format, animation, text), { flag: "wx" });
    signal?.throwIfAborted();
    const name = await place(temporary, next, overwrite);
    return frames?.map((file) => join(name, file)) ?? [name];
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * Checks, before hours are spent, whether an animation can be written. Throws ArgumentError for an impossible name or
 * folder, and ToolError if the tool for the format is missing.
 */
export async function checkDestination(
  out: string,
  { ffmpeg = "ffmpeg", overwrite = true }: { ffmpeg?: string; overwrite?: boolean } = {},
): Promise<void> {
  const format = animationFormat(out);
  if (format === "frames") {
    await checkParent(out);
    if (overwrite && !(await isFreeFolder(out))) {
      throw new ArgumentError(`${out}: frames need a folder of their own, which is new or empty.`);
    }
  } else await checkFile(out);
  if (format === "mp4") await checkFfmpeg(out, ffmpeg);
  else if (format !== "frames") await loadSharp(`${out}: the format`, NO_SHARP);
}

const NO_SHARP = "A folder of PNG files needs nothing.";

async function checkFfmpeg(out: string, ffmpeg: string): Promise<void> {
  const probe = spawn(ffmpeg, ["-version"], { stdio: "ignore" });
  await once(probe, "close").catch((cause) => {
    throw new ToolError(
      `${out}: MP4 needs ffmpeg, and "${ffmpeg}" cannot be run (${(cause as Error).message}). Install it (apt install ` +
        "ffmpeg, brew install ffmpeg, winget install ffmpeg), or ask for a .gif, a .webp or a folder, which need nothing.",
      { cause },
    );
  });
}

/** Their names, within the folder. */
async function writeFrames(
  folder: string,
  { frames }: Animation,
  text: Readonly<Record<string, string>>,
): Promise<string[]> {
  await mkdir(folder);
  const digits = Math.max(4, String(frames.length).length);
  const names = frames.map((_, i) => `${String(i + 1).padStart(digits, "0")}.png`);
  for (const [i, frame] of frames.entries()) await writeFile(join(folder, names[i]!), encodePng(frame, text));
  return names;
}

/** The bytes of a GIF or WebP file, which repeats without end. Throws ToolError where sharp's binary is missing. */
export async function encodeAnimation(
  format: "gif" | "webp",
  { frames, fps }: Animation,
  text: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const sharp = await loadSharp(`${format} files`, NO_SHARP);
  const { width, height } = frames[0]!;
  // One tall picture, of which sharp is told where a frame ends.
  const tall = new Uint8Array(3 * width * height * frames.length);
  for (const [i, { data }] of frames.entries()) tall.set(data, i * data.length);
  const raw = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
  const image = sharp(tall, { raw, limitInputPixels: false });
  const comment = Object.keys(text).length > 0 ? asciiOnly(JSON.stringify(text)) : "";
  if (format === "webp") {
    if (comment) image.withExif({ IFD0: { ImageDescription: comment } });
    return image
      .webp({ delay: frameDelays(frames.length, fps), loop: 0, quality: 90, smartSubsample: true })
      .toBuffer();
  }
  const gif = await image.gif({ delay: frameDelays(frames.length, fps, 10), loop: 0 }).toBuffer();
  return comment ? withGifComment(gif, comment) : gif;
}

/** H.264 that browsers and telephones play: colours of BT.709, halved in resolution, which needs even sizes. */
async function runFfmpeg(
  ffmpeg: string,
  out: string,
  { frames, fps }: Animation,
  text: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<void> {
  const { width, height } = frames[0]!;
  const bt709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"];
  const filters = "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p";
  const input = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", `${width}x${height}`, "-r", String(fps), "-i", "-"];
  const comment = Object.keys(text).length > 0 ? ["-metadata", `comment=${describedIn(text, MOST_COMMENT)}`] : [];
  const output = ["-vf", filters, ...bt709, "-c:v", "libx264", "-crf", "18", "-movflags", "+faststart", ...comment];
  // "file:", since a name may look like an option or like the address of another computer.
  const args = ["-hide_banner", "-loglevel", "error", "-y", ...input, ...output, "-f", "mp4", `file:${resolve(out)}`];
  const child = spawn(ffmpeg, args, { stdio: ["pipe", "ignore", "pipe"], signal });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => {
    said += part;
  });
  const fed = pipeline(Readable.from(frames.map(({ data }) => data)), child.stdin);
  // When ffmpeg gives up it no longer reads, and what it says counts rather than the broken pipe.
  fed.catch(() => {});
  const [code] = (await once(child, "close").catch((cause) => {
    signal?.throwIfAborted();
    throw new ToolError(`ffmpeg could not be run: ${(cause as Error).message}.`, { cause });
  })) as [number | null];
  signal?.throwIfAborted();
  if (code === 0) return;
  throw new ToolError(`ffmpeg failed (${code ?? "killed"}): ${said.trim() || "it did not say why"}.`);
}
