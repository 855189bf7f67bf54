import { CheckpointError } from "../errors.ts";
import { blockBytes, isBlockDType } from "./gguf/blocks.ts";
import type { WeightEntry } from "./weight-files.ts";

/**
 * One of `count` equal parts of a tensor's rows, which are contiguous in its file: of queries, keys and values that are stored as one
 * matrix. Throws CheckpointError, which begins with `where`, for rows that do not make equal parts.
 */
export function rowPart<Entry extends WeightEntry>(entry: Entry, index: number, count: number, where: string): Entry {
  const [rows = 0, ...rest] = entry.shape;
  if (rows === 0 || rows % count !== 0) {
    throw new CheckpointError(`${where} has ${rows} rows; it has to be made of ${count} equal parts.`);
  }
  const length = entry.length / count;
  if (!isBlockDType(entry.dtype) || length % blockBytes[entry.dtype] === 0) {
    return { ...entry, shape: [rows / count, ...rest], offset: entry.offset + index * length, length };
  }
  throw new CheckpointError(
    `${where} is stored in blocks of ${entry.dtype} that go over the end of one of its ${count} parts.`,
  );
}
