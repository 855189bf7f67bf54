/** Amounts of memory, as people write them. */
import { type Check, text, textOr, whole } from "../checks.ts";
import { ArgumentError } from "../errors.ts";

const units: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
};

/** "6GB", "1.5 GiB", "800MB", or a number of bytes. Throws ArgumentError for other text. */
export function parseBytes(text: string): number {
  const [, digits, unit = ""] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const factor = Object.hasOwn(units, unit.toLowerCase()) ? units[unit.toLowerCase()] : undefined;
  const bytes = Math.floor(Number(digits) * (factor ?? Number.NaN));
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new ArgumentError(`"${text}" is not an amount of memory; write "6GB", "800MB" or "1.5GiB".`);
}

/** An amount as text, rounded up so that the printed amount is enough: 2.35 GB, 640 MB. */
export function describeBytes(bytes: number): string {
  return bytes >= 1e9 ? `${(Math.ceil(bytes / 1e7) / 100).toFixed(2)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}

/** An amount of memory as a caller gives it: bytes, or "6GB". */
export const memoryCheck: Check = textOr(text, whole(1, Number.MAX_SAFE_INTEGER));

/** Converts such an amount to bytes; Infinity if none is given. Throws ArgumentError. */
export function memoryBytes(memory: number | string | undefined): number {
  if (memory === undefined) return Number.POSITIVE_INFINITY;
  memoryCheck(memory, "memory");
  return typeof memory === "string" ? parseBytes(memory) : memory;
}
