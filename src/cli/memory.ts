/** Memory that is given back when it is free: what a budget of memory can count on. */
import { spawn } from "node:child_process";
import { constants } from "node:os";

/**
 * glibc keeps freed blocks of up to 32 MB for itself, and comes to do so by having seen one; a fixed threshold hands back
 * every block of more than 1 MB. It is read when a process starts. Costs 4% of the time in pages that are made anew.
 */
export const steadyAllocator = { MALLOC_MMAP_THRESHOLD_: String(2 ** 20) };

/**
 * Whether this process has such an allocator. Otherwise runs its command again in one that has, ends as that does, and gives
 * false. On other systems than Linux there is nothing to do.
 */
export async function hasSteadyAllocator(): Promise<boolean> {
  if (process.platform !== "linux" || process.env["MALLOC_MMAP_THRESHOLD_"]) return true;
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
