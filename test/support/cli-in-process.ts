/** The command in this process: no start of Node, which is most of what a small command takes. */
import { fail } from "../../src/cli/failure.ts";
import { halfstepProgram } from "../../src/cli/program.ts";

export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
  /** Stdout as it was written. */
  bytes: Uint8Array;
}

type Write = typeof process.stdout.write;

/** Keeps what is written to a stream while `work` runs. */
async function capture(stream: NodeJS.WriteStream, work: () => Promise<void>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const { write } = stream;
  stream.write = ((data: string | Uint8Array, ...rest: unknown[]) => {
    parts.push(typeof data === "string" ? Buffer.from(data) : data);
    const done = rest.findLast((argument) => typeof argument === "function") as (() => void) | undefined;
    done?.();
    return true;
  }) as Write;
  try {
    await work();
  } finally {
    stream.write = write;
  }
  return Buffer.concat(parts);
}

export async function halfstepHere(...args: string[]): Promise<Ended> {
  let code = 0;
  let bytes = new Uint8Array();
  const stderr = await capture(process.stderr, async () => {
    bytes = Uint8Array.from(
      await capture(process.stdout, async () => {
        const program = halfstepProgram();
        try {
          await program.parseAsync(args, { from: "user" });
        } catch (error) {
          code = fail(error, program, args);
        }
      }),
    );
  });
  return { code, bytes, stdout: new TextDecoder().decode(bytes), stderr: new TextDecoder().decode(stderr) };
}
