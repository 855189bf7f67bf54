/** A session of which a part is computed once for inputs that stay the same: the keys and values of a text, for example. */
import { openAll, releaseAll } from "../runtime/open-all.ts";
import type { Session } from "../runtime/runtime.ts";
import type { Tensor } from "../tensor.ts";

type Tensors = Readonly<Record<string, Tensor>>;

/** Both graphs of `splitOnce` as one session. Each run computes both; the session that `forRun` gives does not. */
export class OnceSession implements Session {
  readonly #once: Session;
  readonly #each: Session;
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** Outputs that `once` gives. */
  readonly #constant: readonly string[];

  private constructor(once: Session, each: Session) {
    this.#once = once;
    this.#each = each;
    const between = new Set(once.outputNames.filter((name) => each.inputNames.includes(name)));
    this.#constant = once.outputNames.filter((name) => !between.has(name));
    const others = each.inputNames.filter((name) => !between.has(name));
    this.inputNames = [...new Set([...once.inputNames, ...others])];
    this.outputNames = [...this.#constant, ...each.outputNames];
  }

  static async compile<Graph>(
    { once, each }: { readonly once: Graph; readonly each: Graph },
    compile: (graph: Graph) => Promise<Session>,
  ): Promise<OnceSession> {
    const sessions = await openAll([once, each], compile);
    return new OnceSession(sessions[0]!, sessions[1]!);
  }

  async run(feeds: Tensors, into: Tensors = {}): Promise<Record<string, Tensor>> {
    return this.#finish(await this.#once.run(feeds), feeds, into);
  }

  /** One that remembers what it computed while the arrays of the inputs are the same. It holds no memory that has to be released. */
  forRun(): Session {
    const { inputNames, outputNames } = this;
    const memory = new Memory(this.#once);
    const run = async (feeds: Tensors, into: Tensors = {}) => this.#finish(await memory.get(feeds), feeds, into);
    return { inputNames, outputNames, run, release: async () => {} };
  }

  async #finish(kept: Tensors, feeds: Tensors, into: Tensors): Promise<Record<string, Tensor>> {
    const made = await this.#each.run({ ...feeds, ...kept }, into);
    for (const name of this.#constant) made[name] = placed(kept[name]!, into[name]);
    return made;
  }

  release(): Promise<void> {
    return releaseAll([this.#once, this.#each]);
  }
}

/** With guidance there may be two sets of inputs: both halves, and the conditional half alone. */
const REMEMBERED = 2;

/** What a session gave for the last inputs. */
class Memory {
  readonly #session: Session;
  #known: { inputs: readonly Tensor[]; made: Tensors }[] = [];

  constructor(session: Session) {
    this.#session = session;
  }

  async get(feeds: Tensors): Promise<Tensors> {
    const inputs = this.#session.inputNames.map((name) => feeds[name]!);
    const found = this.#known.find((known) => known.inputs.every((tensor, i) => isSame(tensor, inputs[i]!)));
    const known = found ?? { inputs, made: await this.#session.run(feeds) };
    this.#known = [known, ...this.#known.filter((each) => each !== known)].slice(0, REMEMBERED);
    return known.made;
  }
}

/** Whether two tensors are the same array, or views of the same part of a buffer. */
const isSame = ({ data: a, shape }: Tensor, { data: b, shape: other }: Tensor) =>
  a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.length === b.length && shape.join() === other.join();

/** A tensor, or a copy of it in another one. */
function placed(tensor: Tensor, into: Tensor | undefined): Tensor {
  if (!into) return tensor;
  // Equal types, which the compiler does not see.
  (into.data as Float32Array).set(tensor.data as Float32Array);
  return into;
}
