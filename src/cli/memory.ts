/** An allocator that returns freed memory to the system, which a memory budget relies on. */
import { spawn } from "node:child_process";
import { constants } from "node:os";

/**
 * What glibc's allocator does, read when a process starts. By itself it keeps freed blocks of up to 32 MB, for every thread
 * apart. So: one pool for all threads; blocks of more than 4 MB are given back at once, others used again, which saves
 * the making of new pages; those that are made are huge pages.
 */
export const steadyAllocator = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: String(2 ** 22),
  MALLOC_TRIM_THRESHOLD_: String(2 ** 23),
  GLIBC_TUNABLES: [process.env["GLIBC_TUNABLES"], "glibc.malloc.hugetlb=1"].filter(Boolean).join(":"),
};

/**
 * Whether this process has such an allocator. If not, the command is run again in a process that has, this process ends
 * with its exit code, and the result is false. There is nothing to do on systems other than Linux.
 */
export async function hasSteadyAllocator(): Promise<boolean> {
  if (process.platform !== "linux" || process.env["MALLOC_ARENA_MAX"]) return true;
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: "inherit",
    env: { ...process.env, ...steadyAllocator },
  });
  // A terminal's Ctrl-C reaches both; what is sent to this process alone is passed on.
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
