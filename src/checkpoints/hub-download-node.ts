import type { Hash } from "node:crypto";
import { type FileHandle, open, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { HubError } from "../errors.ts";
import { newHash } from "./hub-cache.ts";
import { bodyOf } from "./hub-client.ts";
import { type Patience, TransientHubError } from "./hub-retry.ts";

/** The size and hash that a downloaded file must have. */
export interface ExpectedFile {
  /** Its name in errors. */
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  /** In hex: SHA-256 of the content (64 digits), or git's SHA-1 of it as a blob (40 digits). */
  readonly oid: string;
}

export interface TransferOptions {
  patience: Patience;
  signal: AbortSignal | undefined;
  /** Milliseconds without a byte after which the connection counts as broken. */
  timeout: number;
  /** Whether `target` exists by now with the right content, since another process may have downloaded it. */
  isThere: () => Promise<boolean>;
  /** Called with the number of bytes of this file that are on disk so far. */
  onBytes: (loaded: number) => void;
}

/** Requests a file's bytes from `offset` to its end. The response is 206, or 200 if the server does not support ranges. */
export type OpenTransfer = (offset: number) => Promise<Response>;

/**
 * Downloads a file to `target`. The data goes to `target.incomplete`, which a later call can resume, and is renamed only
 * when size and hash are right. If several callers, including other processes, want the same file, one downloads it and the
 * others wait. Throws HubError when the content is wrong or the connection keeps failing.
 */
export async function download(
  target: string,
  expected: ExpectedFile,
  openTransfer: OpenTransfer,
  options: TransferOptions,
): Promise<void> {
  const { signal, patience } = options;
  await withLock(`${target}.lock`, signal, async () => {
    if (await options.isThere()) return;
    const partial = `${target}.incomplete`;
    const attempt = async () => {
      try {
        await transfer(partial, expected, openTransfer, options);
      } catch (error) {
        if ((await fileSize(partial)) === 0) await rm(partial, { force: true });
        throw error;
      }
    };
    await patience.retry(attempt, { signal, progress: async () => (await fileSize(partial)) ?? 0 });
    await rename(partial, target);
  });
}

/** One attempt: appends to `partial` until it is complete, and checks it. */
async function transfer(
  partial: string,
  { label, size, oid }: ExpectedFile,
  openTransfer: OpenTransfer,
  { signal, onBytes, timeout }: TransferOptions,
): Promise<void> {
  const file = await open(partial, "r+").catch(() => open(partial, "w+"));
  const refuse = async (message: string): Promise<never> => {
    await rm(partial, { force: true });
    throw new HubError(`${label}: ${message}. What came was deleted; try again.`);
  };
  try {
    let { size: done } = await file.stat();
    if (done > size) {
      await file.truncate(0);
      done = 0;
    }
    let hash = await hashStart(file, done, oid, size);
    onBytes(done);
    if (done < size) {
      const response = await openTransfer(done);
      if (response.status !== 206 && done > 0) {
        // The server sends the file from the start.
        await file.truncate(0);
        done = 0;
        hash = newHash(oid, size);
      } else if (response.status === 206 && !isRest(response, done, size)) {
        await response.body?.cancel();
        return await refuse(
          `asked for bytes ${done} to ${size - 1} of ${size}, got "${response.headers.get("Content-Range")}"`,
        );
      }
      for await (const chunk of bodyOf(response, label, timeout)) {
        signal?.throwIfAborted();
        if (done + chunk.length > size) return await refuse(`expected ${size} bytes, but more came`);
        await writeFully(file, chunk, done);
        hash.update(chunk);
        done += chunk.length;
        onBytes(done);
      }
      if (done < size) {
        throw new TransientHubError(`${label}: the connection ended after ${done} of ${size} bytes; run it again.`);
      }
    }
    const found = hash.digest("hex");
    if (found !== oid) await refuse(`expected content with hash ${oid}, found ${found}`);
    await file.sync();
  } finally {
    await file.close();
  }
}

function isRest(response: Response, from: number, size: number): boolean {
  return response.headers.get("Content-Range") === `bytes ${from}-${size - 1}/${size}`;
}

async function hashStart(file: FileHandle, length: number, oid: string, size: number): Promise<Hash> {
  const hash = newHash(oid, size);
  const buffer = new Uint8Array(Math.min(length, 1 << 20));
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - at), at);
    if (bytesRead === 0) break; // then the hash will not match
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
  return hash;
}

async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

/** Size in bytes; undefined if there is no such file. */
export async function fileSize(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

/** A lock that its holder has not touched for this long (ms) belongs to a process that has died. */
const staleAfter = 30_000;

async function withLock(path: string, signal: AbortSignal | undefined, work: () => Promise<void>): Promise<void> {
  const owner = `${hostname()} ${process.pid}`;
  for (;;) {
    signal?.throwIfAborted();
    try {
      await writeFile(path, owner, { flag: "wx" });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    if (await isAbandoned(path)) {
      // If several processes notice it, renaming succeeds for only one of them.
      const grave = `${path}.${process.pid}.${performance.now()}`;
      await rename(path, grave).then(
        () => rm(grave),
        () => undefined,
      );
    } else await sleep(100, undefined, { signal });
  }
  const touch = () => utimes(path, new Date(), new Date()).catch(() => undefined);
  const heartbeat = setInterval(touch, staleAfter / 6);
  try {
    await work();
  } finally {
    clearInterval(heartbeat);
    await rm(path, { force: true });
  }
}

/** Whether a lock belongs to a process that is still running. */
export async function isHeld(path: string): Promise<boolean> {
  return !(await isAbandoned(path));
}

async function isAbandoned(path: string): Promise<boolean> {
  const [found, owner] = await Promise.all([stat(path), readFile(path, "utf8")]).catch(() => [undefined, ""] as const);
  if (!found) return false; // released meanwhile
  if (Date.now() - found.mtimeMs > staleAfter) return true;
  const [host, pid] = owner.split(" ");
  if (host !== hostname() || !pid) return false;
  try {
    process.kill(Number(pid), 0); // signal 0 only asks whether the process is there
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}
