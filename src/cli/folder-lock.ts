/** A lock that lets only one process at a time work in a folder. */
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ArgumentError } from "../errors.ts";

/** The contents of the lock file: who holds it. */
interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When it was taken, ISO 8601. */
  readonly since: string;
  /** When the process started, by the system's clock, if /proc says so: by now another process may have its number. */
  readonly began: string | null;
  /** Distinguishes two locks of one process. */
  readonly id: string;
}

export class FolderLock {
  readonly file: string;
  readonly #text: string;

  private constructor(file: string, text: string) {
    this.file = file;
    this.#text = text;
  }

  /** Takes the lock, also from a process of this machine that has died. Throws ArgumentError that says who holds it. */
  static async take(folder: string): Promise<FolderLock> {
    const file = join(folder, "run.lock");
    const holder: Holder = {
      pid: process.pid,
      host: hostname(),
      since: new Date().toISOString(),
      began: processBegan(process.pid),
      id: randomUUID(),
    };
    const lock = new FolderLock(file, JSON.stringify(holder));
    for (let attempt = 0; attempt < 20; attempt++) {
      try {
        await writeFile(file, lock.#text, { flag: "wx" });
        return lock;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      await removeIfDead(file, folder);
    }
    throw new ArgumentError(
      `${file} could not be taken: other processes keep taking it. If there are none, delete it and ${file}.*.part.`,
    );
  }

  /** A lock that another thread of this process holds. */
  static shared({ file, text }: { file: string; text: string }): FolderLock {
    return new FolderLock(file, text);
  }

  /** For another thread. */
  get shareable(): { file: string; text: string } {
    return { file: this.file, text: this.#text };
  }

  /** Throws unless this process still holds it: nothing may be written then. */
  async check(): Promise<void> {
    const now = await readFile(this.file, "utf8").catch(() => undefined);
    if (now === this.#text) return;
    throw new ArgumentError(
      `${this.file} is not this run's any more: ${now ? describe(holderOf(now)) : "it is gone"}.`,
    );
  }

  async release(): Promise<void> {
    const now = await readFile(this.file, "utf8").catch(() => undefined);
    if (now === this.#text) await rm(this.file, { force: true });
  }
}

/** Removes the lock of a process that has died, and throws if it may live. */
async function removeIfDead(file: string, folder: string): Promise<void> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return; // Released meanwhile.
  const holder = holderOf(text);
  if (!isDead(holder)) {
    throw new ArgumentError(
      `${folder} is in use: ${describe(holder)}. Choose another --out, or wait for it; if it is gone, delete ${file}.`,
    );
  }
  // Of all that notice one at a time may remove it, and only while it is still this one: a text never comes back, since each
  // has an id. So a lock that somebody took meanwhile is never removed.
  const permit = `${file}.${createHash("sha256").update(text).digest("hex").slice(0, 16)}.part`;
  try {
    await writeFile(permit, "", { flag: "wx" });
  } catch {
    await sleep(5 + 20 * Math.random());
    return;
  }
  try {
    if ((await readFile(file, "utf8").catch(() => undefined)) === text) await rm(file, { force: true });
  } finally {
    await rm(permit, { force: true });
  }
}

function holderOf(text: string): Partial<Holder> {
  try {
    const holder: unknown = JSON.parse(text);
    return typeof holder === "object" && holder !== null ? (holder as Partial<Holder>) : {};
  } catch {
    return {}; // Another's file, or one that is being written: not ours to remove.
  }
}

const describe = ({ pid, host, since }: Partial<Holder>) =>
  pid === undefined ? "its lock does not say by whom" : `process ${pid} on ${host} has it since ${since}`;

function isDead({ pid, host, began }: Partial<Holder>): boolean {
  // The processes of other machines cannot be checked.
  if (host !== hostname() || !Number.isSafeInteger(pid) || pid! < 1) return false;
  try {
    process.kill(pid!, 0); // Signal 0 only asks whether the process is there.
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
  const now = processBegan(pid!);
  return typeof began === "string" && now !== null && now !== began;
}

/** When a process started, in ticks since the machine booted; null if that is not known. */
function processBegan(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    // The name, in brackets, may contain spaces and brackets; field 22 is the 20th after it.
    return `${boot} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    return null;
  }
}
