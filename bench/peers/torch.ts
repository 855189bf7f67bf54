/** PyTorch as a peer: a Python process that answers one command at a time, so that both sides can take turns. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";

const script = fileURLToPath(new URL("dit.py", import.meta.url));

/** The interpreter of the environment that setup.sh made, if it did. */
export function findPython(environment: string): string | undefined {
  const path = join(environment, "bin", "python");
  return existsSync(path) ? path : undefined;
}

export interface PeerOptions {
  folder: string;
  inputs: string;
  threads: number;
  /** With torch.compile, weights frozen. */
  compile?: boolean;
}

export class TorchPeer {
  readonly version: string;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(process: ChildProcess, lines: AsyncIterator<string>, version: string) {
    this.#process = process;
    this.#lines = lines;
    this.version = version;
  }

  /** Loads the model and runs it once. Rejects with what Python printed if that fails. */
  static async start(python: string, { folder, inputs, threads, compile }: PeerOptions): Promise<TorchPeer> {
    const args = [script, folder, inputs, String(threads), ...(compile ? ["--compile"] : [])];
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

  async #ask(command: string): Promise<number> {
    this.#process.stdin!.write(`${command}\n`);
    const answer = await this.#lines.next();
    if (answer.done) throw new Error("PyTorch's process has ended");
    return (JSON.parse(answer.value) as { ms: number }).ms;
  }

  stop(): void {
    this.#process.kill();
  }
}
