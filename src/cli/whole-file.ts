import { randomBytes } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";

/** The ending of a file while it is written; a killed run may leave such a file. */
export const unfinished = ".part";

/**
 * Writes a file whole or not at all. It is written under a unique name and then renamed, so a reader finds either the
 * old content or the new.
 */
export async function writeWhole(file: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${file}.${process.pid}-${randomBytes(6).toString("hex")}${unfinished}`;
  try {
    await writeFile(temporary, data, { flag: "wx" });
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
