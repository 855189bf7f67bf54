/** sharp, loaded when a picture is read or a file is written: most of halfstep does without. */
import { ToolError } from "../errors.ts";

/** Throws ToolError where its binary is missing; `what` needs it, and `instead` says what does not. */
export async function loadSharp(what: string, instead = ""): Promise<typeof import("sharp").default> {
  try {
    return (await import("sharp")).default;
  } catch (cause) {
    throw new ToolError(
      `${what} needs the binary of sharp for this system, which npm installs unless optional packages are left out: ` +
        `npm install --include=optional sharp.${instead && ` ${instead}`}`,
      { cause },
    );
  }
}
