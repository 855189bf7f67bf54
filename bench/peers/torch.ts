/** PyTorch as a peer: a Python process that answers one command at a time, so that both sides can take turns. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { floatOf, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";

/** The interpreter of the environment that setup.sh made, if it did. */
export function findPython(environment: string): string | undefined {
  const path = join(environment, "bin", "python");
  return existsSync(path) ? path : undefined;
}

/** A script of this folder. */
export type Network = "dit" | "unet";

export interface PeerOptions {
  folder: string;
  inputs: string;
  threads: number;
  /** Of the script: dit's --compile (torch.compile, weights frozen), unet's --channels-last. */
  options?: readonly string[];
}

/** A file's contents from which the scripts read their inputs. */
export function peerInputs(feeds: Readonly<Record<string, Tensor>>): string {
  const entries = Object.entries(feeds);
  return JSON.stringify({
    types: Object.fromEntries(entries.map(([name, { dtype, shape }]) => [name, [dtype, shape]])),
    values: Object.fromEntries(
      entries.map(([name, { data }]) => [name, Array.from<number | bigint, number>(data, Number)]),
    ),
  });
}

export class TorchPeer {
  readonly version: string;
  /** Most memory of its process so far, in bytes. */
  peak = 0;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(process: ChildProcess, lines: AsyncIterator<string>, version: string) {
    this.#process = process;
    this.#lines = lines;
    this.version = version;
  }

  /** Loads the model and runs it once. Rejects with what Python printed if that fails. */
  static async start(
    python: string,
    network: Network,
    { folder, inputs, threads, options = [] }: PeerOptions,
  ): Promise<TorchPeer> {
    const script = fileURLToPath(new URL(`${network}.py`, import.meta.url));
    const args = [script, folder, inputs, String(threads), ...options];
    const child = spawn(python, args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, OMP_NUM_THREADS: String(threads) },
    });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-2000);
    });
    const reader: Interface = createInterface({ input: child.stdout });
    const lines = reader[Symbol.asyncIterator]();
    const first = await lines.next();
    if (first.done) throw new Error(`${python} ended: ${errors.trim().split("\n").at(-1)}`);
    return new TorchPeer(child, lines, (JSON.parse(first.value) as { version: string }).version);
  }

  /** Milliseconds of one forward pass, as Python measured them. */
  run(): Promise<number> {
    return this.#ask("run");
  }

  /** Writes the output to a file as raw float32. */
  async save(file: string): Promise<void> {
    await this.#ask(`save ${file}`);
  }

  /** Largest difference from what halfstep gave for the same inputs. Throws if it is large: times would say nothing. */
  async agrees(outputs: Readonly<Record<string, Tensor>>, scratch: string): Promise<string> {
    await this.save(scratch);
    const theirs = new Float32Array(Uint8Array.from(await readFile(scratch)).buffer);
    const { relative } = compare("sample", floatOf(outputs, "sample").data, theirs);
    if (!(relative < 1e-3)) throw new Error(`halfstep and PyTorch disagree by ${relative} of the output's deviation`);
    return `largest difference of the outputs: ${relative.toExponential(1)} of their standard deviation`;
  }

  async #ask(command: string): Promise<number> {
    this.#process.stdin!.write(`${command}\n`);
    const answer = await this.#lines.next();
    if (answer.done) throw new Error("PyTorch's process has ended");
    const { ms, peak } = JSON.parse(answer.value) as { ms: number; peak: number };
    this.peak = peak;
    return ms;
  }

  stop(): void {
    this.#process.kill();
  }
}
