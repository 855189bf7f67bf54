import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import type { Tensor } from "../tensor.ts";
import { type EncodeOptions, encodeSafetensors, type LazyTensor } from "./safetensors-writer.ts";

/**
 * Writes a safetensors file. It is written to a temporary file next to `path`, flushed and then renamed, so there is never
 * a half-written file at `path`, not even after a crash. Errors of the file system are passed on.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor | LazyTensor>,
  options: EncodeOptions = {},
): Promise<void> {
  const { chunks } = encodeSafetensors(tensors, options);
  await writeAtomically(path, async (file) => {
    for await (const chunk of chunks()) await writeFully(file, chunk);
  });
}

/** Runs `write` on a temporary file next to `path`, then renames it to `path`; removes it if `write` throws. */
export async function writeAtomically(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx");
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    // A single call writes at most 2 GiB.
    done += (await file.write(bytes, done, Math.min(bytes.length - done, 1 << 30))).bytesWritten;
  }
}
