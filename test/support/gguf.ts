/** Writes GGUF files (version 3), for tests. */
import { floatToHalf } from "../../src/checkpoints/half.ts";
import type { Tensor } from "../../src/tensor.ts";

const ALIGNMENT = 32;
const TYPES = { F32: 0, F16: 1, Q8_0: 8 } as const;
export type GgufType = keyof typeof TYPES;

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value: number) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

/** A file of these tensors, each as `typeOf` says. Metadata are texts. */
export function encodeGguf(
  tensors: ReadonlyMap<string, Tensor>,
  typeOf: (name: string, shape: readonly number[]) => GgufType,
  metadata: Readonly<Record<string, string>> = { "general.architecture": "sd1" },
): Uint8Array<ArrayBuffer> {
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  let offset = 0;
  for (const [name, { shape, data: values }] of tensors) {
    const type = typeOf(name, shape);
    const bytes = stored(Float32Array.from(values as Float32Array), type);
    const padded = Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
    const sizes = [...shape].reverse().map(u64);
    infos.push(text(name), u32(shape.length), ...sizes, u32(TYPES[type]), u64(offset));
    data.push(padded);
    offset += padded.length;
  }
  const pairs = Object.entries(metadata).flatMap(([key, value]) => [text(key), u32(8), text(value)]);
  const counts = [u64(tensors.size), u64(Object.keys(metadata).length)];
  const head = Buffer.concat([Buffer.from("GGUF"), u32(3), ...counts, ...pairs, ...infos]);
  const gap = Buffer.alloc((ALIGNMENT - (head.length % ALIGNMENT)) % ALIGNMENT);
  return new Uint8Array(Buffer.concat([head, gap, ...data]));
}

function stored(values: Float32Array, type: GgufType): Buffer {
  if (type === "F32") return Buffer.from(values.buffer);
  if (type === "F16") return Buffer.from(floatToHalf(values).buffer);
  const blocks = Buffer.alloc((values.length / 32) * 34);
  for (let b = 0; b < values.length / 32; b++) {
    const block = values.subarray(32 * b, 32 * b + 32);
    const scale = Math.max(...block.map(Math.abs)) / 127;
    blocks.writeUInt16LE(floatToHalf(Float32Array.of(scale))[0]!, 34 * b);
    for (const [i, value] of block.entries()) blocks.writeInt8(scale ? Math.round(value / scale) : 0, 34 * b + 2 + i);
  }
  return blocks;
}

/** What stable-diffusion.cpp stores in blocks: matrices with whole blocks in a row. */
export const quantised = (_: string, shape: readonly number[]): GgufType =>
  shape.length === 2 && shape[1]! % 32 === 0 ? "Q8_0" : "F16";
