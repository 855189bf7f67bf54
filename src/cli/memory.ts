/** An allocator that returns freed memory to the system, which a memory budget relies on. */
import { spawn } from "node:child_process";
import { constants } from "node:os";

/**
 * Settings of glibc's allocator, which it reads when a process starts. By default it keeps freed blocks of up to 32 MB,
 * separately for every thread. With these settings there is one pool for all threads; blocks of more than 4 MB are returned
 * at once, and smaller ones are reused, which saves creating new pages. New pages are huge pages.
 */
export const steadyAllocator = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: String(2 ** 22),
  MALLOC_TRIM_THRESHOLD_: String(2 ** 23),
  GLIBC_TUNABLES: [process.env["GLIBC_TUNABLES"], "glibc.malloc.hugetlb=1"].filter(Boolean).join(":"),
};

/**
 * Whether this process has such an allocator. If not, the command is run again in a process that has one, this process ends
 * with its exit code, and the result is false. On systems other than Linux there is nothing to do.
 */
export async function hasSteadyAllocator(): Promise<boolean> {
  if (process.platform !== "linux" || process.env["MALLOC_ARENA_MAX"]) return true;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, ...steadyAllocator },
  });
  // Ctrl-C in a terminal reaches both processes; signals sent only to this process are passed on.
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, pass);
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (ended, signal) => resolve(ended ?? 128 + (signal ? constants.signals[signal] : 1)));
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.off(signal, pass);
  process.exitCode = code;
  return false;
}
