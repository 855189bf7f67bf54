/** Programs of a user's: npm and what it installs, with nothing of this repository's own settings. */
import { execFile } from "node:child_process";
import { delimiter, dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export const root = fileURLToPath(new URL("../..", import.meta.url));

export interface Settings {
  readonly cwd: string;
  /** The folder of a node that is not this one. */
  readonly node?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * `npm run` tells what it starts of its own settings, of which `ignore-scripts` is one; certificates that the machine trusts
 * stay. The script that downloads CUDA is kept from it by a proxy that is not there, so that an install is that of a machine
 * which reaches its registry alone.
 */
export function environment({ node = dirname(process.execPath), env }: Settings): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|NODE_(?!EXTRA_CA)|VITEST|ONNXRUNTIME|INIT_CWD)/i.test(name),
  );
  return {
    ...Object.fromEntries(own),
    PATH: `${node}${delimiter}${process.env["PATH"]}`,
    GLOBAL_AGENT_HTTPS_PROXY: "http://127.0.0.1:9",
    NEXT_TELEMETRY_DISABLED: "1",
    NO_COLOR: "1",
    ...env,
  };
}

/** Standard output. A failure is an error with all that the program wrote. */
export async function run(command: string, args: readonly string[], settings: Settings): Promise<string> {
  return (await runAll(command, args, settings)).stdout;
}

export async function runAll(command: string, args: readonly string[], settings: Settings) {
  const options = { cwd: settings.cwd, env: environment(settings), maxBuffer: 2 ** 26 };
  try {
    return await promisify(execFile)(command, args, options);
  } catch (cause) {
    const { stdout = "", stderr = "" } = cause as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(" ")}\n${stdout}\n${stderr}`, { cause });
  }
}

export const npm = (args: readonly string[], settings: Settings) => run("npm", args, settings);
