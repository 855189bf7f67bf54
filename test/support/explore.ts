import { vi } from "vitest";
import { exploreCommand } from "../../src/cli/explore/explore.ts";

/** What `halfstep explore` prints, run in this process; progress is left out. */
export async function explore(...args: string[]): Promise<string> {
  let printed = "";
  const write = (data: unknown, done?: unknown) => {
    printed += String(data);
    if (typeof done === "function") done();
    return true;
  };
  const out = vi.spyOn(process.stdout, "write").mockImplementation(write as never);
  const progress = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    const command = exploreCommand();
    // Without it wrong options end the process.
    for (const part of [command, ...command.commands]) part.exitOverride();
    await command.parseAsync(args, { from: "user" });
  } finally {
    out.mockRestore();
    progress.mockRestore();
  }
  return printed.trimEnd();
}
