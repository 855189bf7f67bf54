/** The backups of paper-bounds.ts in WebAssembly, two at a time: the same operations in the same order, so the same bits. */

import type { Problem } from "../mdp/problem.ts";
import type { Counts } from "./counts.ts";
import { assemble, type Code, FunctionBuilder, f64, i32, repeat, type Variable, v128, when } from "./wasm.ts";

/**
 * Layout of a row in memory, 64 bytes: where its successors begin and end, its visits, the parts of its bonus, the bounds of
 * its reward, and the baseline's probability of its action.
 */
const row = { first: 0, end: 4, visits: 8, root: 16, linear: 24, high: 32, low: 40, baseline: 48, bytes: 64 };

/** Size of a state's bounds: a plan has an upper and a lower one, four candidates have four of each. */
const planBytes = 16;
const fourBytes = 64;

/** Whether a step and state was seen and is backed up, was not seen yet, or never occurs because no episode starts there. */
const flag = { seen: 0, unseen: 1, never: 2 };

/** Undefined if the platform lacks WebAssembly vectors, or a page's policy forbids compiling. */
export function createKernel(problem: Problem, counts: Counts): PaperKernel | undefined {
  if (typeof WebAssembly === "undefined") return undefined;
  try {
    compiled ??= new WebAssembly.Module(assemble({ plan: planStep(), four: fourStep() }));
    return new PaperKernel(problem, counts, compiled);
  } catch (error) {
    // Compiling is forbidden or not supported here, or there is not enough memory.
    if (error instanceof WebAssembly.CompileError || error instanceof RangeError) return undefined;
    throw error;
  }
}

let compiled: WebAssembly.Module | undefined;

/** Variables of both functions, which loop over the states of one step and each state's rows. */
function walker() {
  const f = new FunctionBuilder();
  const parameters = {
    rows: f.parameter("i32"),
    flags: f.parameter("i32"),
    actions: f.parameter("i32"),
    later: f.parameter("i32"),
    here: f.parameter("i32"),
    hereEnd: f.parameter("i32"),
    nexts: f.parameter("i32"),
    shares: f.parameter("i32"),
    left: f.parameter("f64"),
    inverse: f.parameter("f64"),
    chosen: f.parameter("i32"),
  };
  const vector = () => f.local("v128");
  const next = f.local("i32");
  const nextEnd = f.local("i32");
  const share = f.local("i32");
  const at = f.local("i32");
  const { rows, nexts, shares, later } = parameters;
  /** Runs the body for each successor of the row; `at` is where its bounds are, `weight` its frequency. */
  const successors = (bytes: number, before: Code, body: (weight: Code) => Code): Code => {
    const place = at.set(i32.add(later.get, i32.shl(i32.load(next.get), i32.const(Math.log2(bytes)))));
    return [
      ...next.set(i32.add(nexts.get, i32.shl(i32.load(rows.get, row.first), i32.const(2)))),
      ...nextEnd.set(i32.add(nexts.get, i32.shl(i32.load(rows.get, row.end), i32.const(2)))),
      ...share.set(i32.add(shares.get, i32.shl(i32.load(rows.get, row.first), i32.const(3)))),
      ...place,
      ...before,
      ...repeat(
        [
          ...place,
          ...body(v128.loadSplat(share.get)),
          ...next.set(i32.add(next.get, i32.const(4))),
          ...share.set(i32.add(share.get, i32.const(8))),
        ],
        i32.less(next.get, nextEnd.get),
      ),
    ];
  };
  return { f, vector, ...parameters, at, successors };
}

const { add, sub, mul, sqrt, min, max } = v128;
const advance = (pointer: Variable, bytes: number): Code => pointer.set(i32.add(pointer.get, i32.const(bytes)));

/** The last part of a backup, from means and variance to the upper and lower bound. */
function bounds(rows: Variable, left: Variable, inverse: Variable, meanUpper: Code, meanLower: Code, variance: Code) {
  const of = (offset: number) => v128.loadSplat(rows.get, offset);
  const bonus = add(
    add(mul(of(row.root), sqrt(max(v128.splat(f64.const(0)), variance))), of(row.linear)),
    mul(sub(meanUpper, meanLower), v128.splat(inverse.get)),
  );
  const clip = (value: Code) => min(v128.splat(left.get), max(v128.splat(f64.const(0)), value));
  return { bonus, clip, high: of(row.high), low: of(row.low) };
}

/**
 * One step of a plan: for each state the best action by its upper bound, with both bounds. A state's place in memory is
 * [upper, lower]; the actions' numbers go to where `chosen` points.
 */
function planStep() {
  const { f, vector, rows, flags, actions, here, hereEnd, left, inverse, chosen, at, successors } = walker();
  const action = f.local("i32");
  const best = f.local("i32");
  const [shift, sum, squares, weighted, difference] = [vector(), vector(), vector(), vector(), vector()];
  const [means, bonus, found, bestBounds] = [vector(), vector(), vector(), vector()];
  const unknown = v128.pair(v128.splat(left.get), v128.splat(f64.const(0)));
  const last = bounds(rows, left, inverse, means.get, v128.upper(means.get), sub(squares.get, mul(sum.get, sum.get)));
  const backUp = [
    ...successors(
      planBytes,
      [
        // [U' of the first successor, 0]: sums are taken over differences from it.
        ...shift.set(v128.pair(v128.load(at.get), v128.splat(f64.const(0)))),
        ...sum.set(v128.splat(f64.const(0))),
        ...squares.set(v128.splat(f64.const(0))),
      ],
      (weight) => [
        ...difference.set(sub(v128.load(at.get), shift.get)),
        ...weighted.set(mul(weight, difference.get)),
        ...sum.set(add(sum.get, weighted.get)),
        ...squares.set(add(squares.get, mul(weighted.get, difference.get))),
      ],
    ),
    ...means.set(add(shift.get, sum.get)), // The sums are [offset, mean of L'].
    ...bonus.set(last.bonus),
    ...found.set(
      last.clip(
        v128.pair(add(add(last.high, bonus.get), means.get), add(sub(last.low, bonus.get), v128.upper(means.get))),
      ),
    ),
  ];
  const body = repeat(
    [
      ...best.set(i32.const(0)),
      ...bestBounds.set(unknown),
      ...when(
        i32.equal(i32.load8(flags.get), i32.const(flag.unseen)),
        rows.set(i32.add(rows.get, i32.mul(actions.get, i32.const(row.bytes)))),
        [
          ...action.set(i32.const(0)),
          ...repeat(
            [
              ...when(f64.equal(f64.load(rows.get, row.visits), f64.const(0)), found.set(unknown), backUp),
              ...when(
                i32.equal(action.get, i32.const(0)),
                bestBounds.set(found.get),
                when(f64.greater(v128.first(found.get), v128.first(bestBounds.get)), [
                  ...bestBounds.set(found.get),
                  ...best.set(action.get),
                ]),
              ),
              ...advance(rows, row.bytes),
              ...advance(action, 1),
            ],
            i32.less(action.get, actions.get),
          ),
        ],
      ),
      ...v128.store(here.get, bestBounds.get),
      ...i32.store(chosen.get, best.get),
      ...advance(chosen, 4),
      ...advance(flags, 1),
      ...advance(here, planBytes),
    ],
    i32.less(here.get, hereEnd.get),
  );
  return { signature: f.signature(), code: f.code(body) };
}

/** One step of the baseline for four candidates: a state's place in memory is [four upper bounds, four lower bounds]. */
function fourStep() {
  const { f, vector, rows, flags, actions, here, hereEnd, left, inverse, at, successors } = walker();
  const rowsEnd = f.local("i32");
  const two = () => [vector(), vector()] as const;
  const [upper, lower, shift, sum, squares, low] = [two(), two(), two(), two(), two(), two()];
  const [difference, weighted, weight] = [vector(), vector(), vector()];
  const [bonus, meanUpper, meanLower] = [vector(), vector(), vector()];
  const p = v128.loadSplat(rows.get, row.baseline);
  const zero = v128.splat(f64.const(0));
  const both = (body: (k: 0 | 1) => Code): Code => [...body(0), ...body(1)];
  const variance = (k: 0 | 1) => sub(squares[k].get, mul(sum[k].get, sum[k].get));
  const backUp = [
    ...successors(
      fourBytes,
      both((k) => [
        ...shift[k].set(v128.load(at.get, 16 * k)),
        ...sum[k].set(zero),
        ...squares[k].set(zero),
        ...low[k].set(zero),
      ]),
      (times) => [
        ...weight.set(times),
        ...both((k) => [
          ...difference.set(sub(v128.load(at.get, 16 * k), shift[k].get)),
          ...weighted.set(mul(weight.get, difference.get)),
          ...sum[k].set(add(sum[k].get, weighted.get)),
          ...squares[k].set(add(squares[k].get, mul(weighted.get, difference.get))),
          ...low[k].set(add(low[k].get, mul(weight.get, v128.load(at.get, 32 + 16 * k)))),
        ]),
      ],
    ),
    ...both((k) => {
      const last = bounds(rows, left, inverse, meanUpper.get, meanLower.get, variance(k));
      return [
        ...meanUpper.set(add(shift[k].get, sum[k].get)),
        ...meanLower.set(low[k].get),
        ...bonus.set(last.bonus),
        ...upper[k].set(add(upper[k].get, mul(p, last.clip(add(add(last.high, bonus.get), meanUpper.get))))),
        ...lower[k].set(add(lower[k].get, mul(p, last.clip(add(sub(last.low, bonus.get), meanLower.get))))),
      ];
    }),
  ];
  const body = repeat(
    [
      ...both((k) => [...upper[k].set(zero), ...lower[k].set(zero)]),
      ...rowsEnd.set(i32.add(rows.get, i32.mul(actions.get, i32.const(row.bytes)))),
      ...when(
        i32.equal(i32.load8(flags.get), i32.const(flag.unseen)),
        both((k) => upper[k].set(v128.splat(left.get))),
      ),
      ...when(
        i32.equal(i32.load8(flags.get), i32.const(flag.seen)),
        repeat(
          [
            ...when(
              f64.greater(f64.load(rows.get, row.baseline), f64.const(0)),
              when(
                f64.equal(f64.load(rows.get, row.visits), f64.const(0)),
                both((k) => upper[k].set(add(upper[k].get, mul(p, v128.splat(left.get))))),
                backUp,
              ),
            ),
            ...advance(rows, row.bytes),
          ],
          i32.less(rows.get, rowsEnd.get),
        ),
      ),
      ...rows.set(rowsEnd.get),
      ...both((k) => [
        ...v128.store(here.get, upper[k].get, 16 * k),
        ...v128.store(here.get, lower[k].get, 32 + 16 * k),
      ]),
      ...advance(flags, 1),
      ...advance(here, fourBytes),
    ],
    i32.less(here.get, hereEnd.get),
  );
  return { signature: f.signature(), code: f.code(body) };
}

type Step = (
  rows: number,
  flags: number,
  actions: number,
  later: number,
  here: number,
  hereEnd: number,
  nexts: number,
  shares: number,
  left: number,
  inverse: number,
  chosen: number,
) => void;

/** The kernel's functions with a copy of the counts in its memory, which `refresh` keeps up to date row by row. */
export class PaperKernel {
  readonly #problem: Problem;
  readonly #counts: Counts;
  readonly #memory: WebAssembly.Memory;
  readonly #planStep: Step;
  readonly #fourStep: Step;
  /** Where things are in memory, in bytes. */
  readonly #at: { rows: number; flags: number; chosen: number; plan: number; lanes: [number, number]; pool: number };
  /** Number of rows of visited states: all of them, and by step those that the baseline plays and an episode can reach. */
  #planned = 0;
  readonly #played: Int32Array;
  /** Capacity for successors; their frequencies follow after it. */
  #room = 0;
  #floats = new Float64Array(0);
  #integers = new Int32Array(0);
  #bytes = new Uint8Array(0);

  constructor(problem: Problem, counts: Counts, module: WebAssembly.Module) {
    this.#problem = problem;
    this.#counts = counts;
    const { memory, plan, four } = new WebAssembly.Instance(module).exports;
    this.#memory = memory as WebAssembly.Memory;
    this.#planStep = plan as Step;
    this.#fourStep = four as Step;
    const { horizon, states, actions } = problem;
    let end = 0;
    const place = (bytes: number) => {
      const from = end;
      end += Math.ceil(bytes / 64) * 64;
      return from;
    };
    this.#at = {
      rows: place(horizon * states * actions * row.bytes),
      flags: place(horizon * states),
      chosen: place(4 * horizon * states),
      plan: place((horizon + 1) * states * planBytes),
      lanes: [place(states * fourBytes), place(states * fourBytes)],
      pool: end,
    };
    this.#played = new Int32Array(horizon);
    this.#fit();
    for (let i = 0; i < problem.baseline.length; i++) {
      this.#floats[(this.#at.rows + i * row.bytes + row.baseline) / 8] = problem.baseline[i]!;
    }
    for (let at = 0; at < horizon * states; at++) this.#bytes[this.#at.flags + at] = flag.unseen;
  }

  /** Makes room for all successors; the memory grows with their pool. */
  #fit(): void {
    const { next, visits } = this.#counts;
    const room = 2 * Math.ceil(next.length / 2);
    if (room !== this.#room) {
      this.#room = room;
      const missing = this.#at.pool + 12 * room - this.#memory.buffer.byteLength;
      if (missing > 0) this.#memory.grow(Math.ceil(missing / 65536));
      this.#floats = new Float64Array(this.#memory.buffer);
      this.#integers = new Int32Array(this.#memory.buffer);
      this.#bytes = new Uint8Array(this.#memory.buffer);
      for (let index = 0; index < visits.length; index++) this.#copy(index);
    }
  }

  get #shares(): number {
    return this.#at.pool + 4 * this.#room;
  }

  /** Copies a row whose counts have changed, with the parts of its bonus and the bounds of its reward. */
  refresh(index: number, root: number, linear: number, high: number, low: number): void {
    this.#fit();
    this.#copy(index);
    const { visits, start, size, actions } = this.#counts;
    const at = this.#at.rows + index * row.bytes;
    this.#integers[(at + row.first) / 4] = start[index]!;
    this.#integers[(at + row.end) / 4] = start[index]! + size[index]!;
    const floats = at / 8;
    this.#floats[floats + row.visits / 8] = visits[index]!;
    this.#floats[floats + row.root / 8] = root;
    this.#floats[floats + row.linear / 8] = linear;
    this.#floats[floats + row.high / 8] = high;
    this.#floats[floats + row.low / 8] = low;
    const place = Math.floor(index / actions);
    if (this.#bytes[this.#at.flags + place] === flag.unseen) this.#see(place);
  }

  /** A row's successors and their frequencies. */
  #copy(index: number): void {
    const { visits, start, size, next, times } = this.#counts;
    const inverse = 1 / visits[index]!;
    for (let i = start[index]!; i < start[index]! + size[index]!; i++) {
      this.#integers[this.#at.pool / 4 + i] = next[i]!;
      this.#floats[this.#shares / 8 + i] = times[i]! * inverse;
    }
  }

  /** Marks a step and state that is visited for the first time. */
  #see(place: number): void {
    const { states, actions, initial, baseline } = this.#problem;
    const starts = place >= states || initial[place]! > 0;
    this.#bytes[this.#at.flags + place] = starts ? flag.seen : flag.never;
    this.#planned += actions;
    if (!starts) return;
    const played = baseline.subarray(place * actions, (place + 1) * actions).filter((p) => p > 0);
    this.#played[Math.floor(place / states)]! += played.length;
  }

  /** Backward induction: the optimistic policy, its upper and its lower bounds. Returns the number of backups. */
  plan(optimistic: Int32Array, upper: Float64Array, lower: Float64Array): number {
    const { horizon, states } = this.#problem;
    const { plan, chosen } = this.#at;
    for (let h = horizon - 1; h >= 0; h--) {
      const here = plan + h * states * planBytes;
      this.#step(this.#planStep, h, here + states * planBytes, here, planBytes, chosen + 4 * h * states);
    }
    optimistic.set(this.#integers.subarray(chosen / 4, chosen / 4 + optimistic.length));
    for (let at = 0; at < horizon * states; at++) {
      upper[at] = this.#floats[plan / 8 + 2 * at]!;
      lower[at] = this.#floats[plan / 8 + 2 * at + 1]!;
    }
    return this.#planned;
  }

  /** Lower bounds of candidates first .. first + 3, after a plan. Returns the number of backups. */
  four(first: number, into: Float64Array): number {
    const { states, initial } = this.#problem;
    let [later, here] = this.#at.lanes;
    this.#copyPlan(first + 3, first, later);
    for (let h = first + 2; h >= 0; h--) {
      this.#step(this.#fourStep, h, later, here, fourBytes);
      // Candidates that have not reached their baseline steps yet have the plan's bounds.
      this.#copyPlan(h, first, here);
      [later, here] = [here, later];
    }
    into.fill(0);
    for (let s = 0; s < states; s++) {
      for (let c = 0; c < 4; c++) into[c]! += initial[s]! * this.#floats[(later + s * fourBytes) / 8 + 4 + c]!;
    }
    return 4 * this.#played.subarray(0, first + 3).reduce((sum, rows) => sum + rows, 0);
  }

  #step(step: Step, h: number, later: number, here: number, bytes: number, chosen = 0): void {
    const { horizon, states, actions } = this.#problem;
    const { rows, flags, pool } = this.#at;
    const from = rows + h * states * actions * row.bytes;
    const hereEnd = here + states * bytes;
    const left = horizon - h;
    step(from, flags + h * states, actions, later, here, hereEnd, pool, this.#shares, left, 1 / horizon, chosen);
  }

  /** Copies the plan's bounds at a step, for those of the four candidates that have switched by then. */
  #copyPlan(h: number, first: number, to: number): void {
    const { states } = this.#problem;
    const floats = this.#floats;
    for (let c = 0; c < 4 && first + c <= h; c++) {
      for (let s = 0; s < states; s++) {
        const from = this.#at.plan / 8 + 2 * (h * states + s);
        floats[(to + s * fourBytes) / 8 + c] = floats[from]!;
        floats[(to + s * fourBytes) / 8 + 4 + c] = floats[from + 1]!;
      }
    }
  }
}
