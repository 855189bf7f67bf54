import type { ByteSource } from "../../src/checkpoints/files.ts";

/** A safetensors file from a header as it is and data as it is, with nothing checked. */
export function file(header: unknown, data: Uint8Array | number = 0, headerBytes?: number | bigint): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const body = typeof data === "number" ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + json.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes ?? json.length), true);
  bytes.set(json, 8);
  bytes.set(body, 8 + json.length);
  return bytes;
}

/** Counts what is read, and fails the test on a read that is longer than the file or leaves it. */
export class StrictSource implements ByteSource {
  readonly name = "unet/model.safetensors";
  readonly size: number;
  reads = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.size = bytes.length;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
    if (!whole || offset < 0 || length < 0 || offset + length > this.size) {
      throw new Error(`read of ${length} bytes at ${offset} in a file of ${this.size}`);
    }
    this.reads++;
    return this.bytes.subarray(offset, offset + length);
  }
}

/** All chunks as one array. */
export async function concat(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.slice());
  return new Uint8Array(Buffer.concat(parts));
}
