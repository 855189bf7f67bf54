/** Animations to files: GIF and WebP with sharp, MP4 with ffmpeg where it is installed, or a folder of PNG files. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ArgumentError, ToolError } from "../errors.ts";
import {
  type Animation,
  animationFormat,
  asciiOnly,
  checkAnimation,
  frameDelays,
  withGifComment,
} from "./animation.ts";
import { encodePng } from "./picture.ts";

export interface WriteAnimationOptions {
  /** What is kept with the pictures where the format has a place for it: prompt, seed, settings. */
  text?: Readonly<Record<string, string>>;
  /** Nothing is left behind when it is aborted; what is thrown is its reason. */
  signal?: AbortSignal;
  /** The program that makes MP4 files; "ffmpeg", as the system finds it, unless given. */
  ffmpeg?: string;
}

/**
 * Writes an animation; the name says the format (`animationFormat`). A file of that name is replaced, a folder must be new or
 * empty. The name comes into being when all of it is written, by renaming. Returns the files. Throws ArgumentError for
 * frames and names that cannot be, ToolError where ffmpeg or sharp's binary is missing or fails, and the system's errors.
 */
export async function writeAnimation(
  out: string,
  animation: Animation,
  { text = {}, signal, ffmpeg = "ffmpeg" }: WriteAnimationOptions = {},
): Promise<string[]> {
  const format = animationFormat(out);
  checkAnimation(animation, format);
  await checkDestination(out, ffmpeg);
  const name = out.replace(/[\\/]+$/, "");
  const temporary = `${name}.${process.pid}.tmp`;
  try {
    signal?.throwIfAborted();
    let files = [out];
    if (format === "frames") files = await writeFrames(temporary, name, animation, text);
    else if (format === "mp4") await runFfmpeg(ffmpeg, temporary, animation, text, signal);
    else await writeFile(temporary, await encode(format, animation, text));
    signal?.throwIfAborted();
    // A folder takes the place of an empty one only where that is gone.
    if (format === "frames" && existsSync(name)) await rmdir(name);
    await rename(temporary, name);
    return files;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

/**
 * What would keep an animation from being written, before hours are spent on it. Throws ArgumentError for a name or a folder
 * that cannot be, ToolError if MP4 is asked for and there is no ffmpeg.
 */
export async function checkDestination(out: string, ffmpeg = "ffmpeg"): Promise<void> {
  const format = animationFormat(out);
  const folder = dirname(out);
  if (!existsSync(folder)) throw new ArgumentError(`${out}: there is no folder ${folder}.`);
  if (format === "frames" && existsSync(out)) {
    const isFolder = (await stat(out)).isDirectory();
    if (!isFolder) throw new ArgumentError(`${out}: it is a file; frames need a folder of their own.`);
    if ((await readdir(out)).length > 0) {
      throw new ArgumentError(`${out}: the folder is not empty, and frames need one of their own.`);
    }
  }
  if (format !== "mp4") return;
  const probe = spawn(ffmpeg, ["-version"], { stdio: "ignore" });
  await once(probe, "close").catch((cause) => {
    throw new ToolError(
      `${out}: MP4 needs ffmpeg, and "${ffmpeg}" cannot be run (${(cause as Error).message}). Install it (apt install ` +
        "ffmpeg, brew install ffmpeg, winget install ffmpeg), or ask for a .gif, a .webp or a folder, which need nothing.",
      { cause },
    );
  });
}

async function writeFrames(
  temporary: string,
  name: string,
  { frames }: Animation,
  text: Readonly<Record<string, string>>,
): Promise<string[]> {
  await mkdir(temporary);
  const digits = Math.max(4, String(frames.length).length);
  const names = frames.map((_, i) => `${String(i + 1).padStart(digits, "0")}.png`);
  for (const [i, frame] of frames.entries()) await writeFile(join(temporary, names[i]!), encodePng(frame, text));
  return names.map((file) => join(name, file));
}

/** GIF and WebP, repeated without end. */
async function encode(
  format: "gif" | "webp",
  { frames, fps }: Animation,
  text: Readonly<Record<string, string>>,
): Promise<Uint8Array> {
  const { default: sharp } = await import("sharp").catch((cause) => {
    throw new ToolError(
      `${format} files need the binary of sharp for this system, which npm installs unless optional packages are left ` +
        "out: npm install --include=optional sharp. A folder of PNG files needs nothing.",
      { cause },
    );
  });
  const { width, height } = frames[0]!;
  // One tall picture, of which sharp is told where a frame ends.
  const tall = new Uint8Array(3 * width * height * frames.length);
  for (const [i, { data }] of frames.entries()) tall.set(data, i * data.length);
  const raw = { width, height: height * frames.length, channels: 3 as const, pageHeight: height };
  const image = sharp(tall, { raw, limitInputPixels: false });
  const comment = Object.keys(text).length > 0 ? JSON.stringify(text) : "";
  if (format === "webp") {
    if (comment) image.withExif({ IFD0: { ImageDescription: asciiOnly(comment) } });
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
  const comment = Object.keys(text).length > 0 ? ["-metadata", `comment=${JSON.stringify(text)}`] : [];
  const output = ["-vf", filters, ...bt709, "-c:v", "libx264", "-crf", "18", "-movflags", "+faststart", ...comment];
  const args = ["-hide_banner", "-loglevel", "error", "-y", ...input, ...output, "-f", "mp4", out];
  const child = spawn(ffmpeg, args, { stdio: ["pipe", "ignore", "pipe"], ...(signal ? { signal } : {}) });
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
