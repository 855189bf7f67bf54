/**
 * Memory that a group needs apart from its features and weights: the intermediate values that ONNX Runtime holds while it runs,
 * computed from the group's graph.
 */
import { type Node, topologicalOrder, type Value, weight } from "../graph/value.ts";
import type { WeightSource } from "../models/weights.ts";
import { sizeOf } from "../tensor.ts";
import { buildSlice, type Flow, type Group } from "./grouping.ts";

/** Operators whose output shares the memory of their first input. */
const ALIASES = new Set(["Reshape", "Identity"]);
/** Operators whose result ONNX Runtime writes over an input of equal size that nothing reads later. */
const IN_PLACE = new Set(["Add", "Sub", "Mul", "Div", "Sqrt", "Sigmoid", "Clip", "Cast"]);

const bytes = ({ shape, dtype }: Value) => sizeOf(shape as number[]) * (dtype === "int64" ? 8 : 4);

/**
 * An operator's memory apart from inputs and outputs: copies of queries, keys and values by head, and all scores where something
 * is added to them; a convolution's input and output in blocks of channels.
 */
function workspace({ op, inputs, outputs, attributes }: Node): number {
  if (op === "MultiHeadAttention") {
    const copies = inputs.slice(0, 3).reduce((sum, value) => sum + bytes(value!), 0);
    return inputs[5] ? copies + bytes(outputs[0]!) + scoreBytes(inputs, attributes["num_heads"] as number) : copies;
  }
  if (op === "Conv") return bytes(inputs[0]!) + bytes(outputs[0]!);
  return 0;
}

/** Only without a bias does ONNX Runtime work out attention in blocks, and never holds the scores of all keys. */
function scoreBytes([q, k]: Node["inputs"], heads: number): number {
  const [batch, tokens] = q!.shape as number[];
  return 4 * batch! * heads * tokens! * (k!.shape[1] as number);
}

/**
 * The most bytes of values in memory at one time, without inputs and weights. A value is in memory from the node that computes it
 * to the last node that reads it. `outputs` are in the caller's memory. All shapes must be known.
 */
export function activationBytes(outputs: Readonly<Record<string, Value>>): number {
  const order = topologicalOrder(Object.values(outputs));
  const constant = new Set<Node>();
  for (const node of order) {
    const leaf = node.op === "Constant" || node.op === "Weight";
    if (leaf || (node.op !== "Input" && node.inputs.every((value) => !value || constant.has(value.node)))) {
      constant.add(node);
    }
  }
  const steps = order.filter((node) => node.op !== "Input" && !constant.has(node));
  /** For each value that the group allocates: the value whose memory it uses, itself or another one. */
  const home = new Map<Value, Value>();
  const lastRead = new Map<Value, number>();
  const owner = (value: Value | null | undefined) => (value ? home.get(value) : undefined);
  const given = new Set(Object.values(outputs));
  const reads = steps.map(({ inputs }) => inputs.filter((value) => value !== null));
  // Which values share memory depends on the last reader, which depends on which values share memory. So aliases are
  // resolved first.
  const aliasOf = (value: Value): Value =>
    ALIASES.has(value.node.op) && !given.has(value) ? aliasOf(value.node.inputs[0]!) : value;
  for (const [i, inputs] of reads.entries()) for (const value of inputs) lastRead.set(aliasOf(value), i);
  const size = new Map<Value, number>();
  const freedAfter = new Map<Value, number>();
  let [alive, most] = [0, 0];
  for (const [i, node] of steps.entries()) {
    for (const value of node.outputs) {
      if (given.has(value) || !lastRead.has(aliasOf(value))) continue;
      if (ALIASES.has(node.op)) {
        const shared = owner(node.inputs[0]);
        if (shared) home.set(value, shared);
        continue;
      }
      const over = IN_PLACE.has(node.op)
        ? reads[i]!.find((input) => {
            const own = owner(input);
            return own && bytes(input) === bytes(value) && freedAfter.get(own) === i;
          })
        : undefined;
      const place = over ? owner(over)! : value;
      home.set(value, place);
      if (!over) {
        size.set(place, bytes(value));
        alive += bytes(value);
      }
      freedAfter.set(place, Math.max(over ? 0 : -1, lastRead.get(value)!));
    }
    most = Math.max(most, alive + workspace(node));
    for (const [place, until] of freedAfter) {
      if (until > i) continue;
      alive -= size.get(place)!;
      freedAfter.delete(place);
    }
  }
  return most;
}

/**
 * Weights without contents, for graphs that are built only to count their values, and those that were asked for. Each is in a "file"
 * of its name, so that some rows of it are counted as some rows.
 */
export function costSource(): { source: WeightSource; parameters: Map<string, Value> } {
  const parameters = new Map<string, Value>();
  const source: WeightSource = (name, shape) => {
    const value = weight(name, shape, "float32", { file: name, offset: 0, length: 4 * sizeOf(shape) });
    parameters.set(name, value);
    return value;
  };
  return { source, parameters };
}

/** The memory of a group as a function of the length of its slices: bytes = fixed + each * length. */
export interface GroupCost {
  /** Bytes that its session holds: weights, and the ones that norms without a scale multiply with. */
  readonly weights: number;
  /** Bytes of weights that every run makes float32 again, because the session holds them in fewer bits. */
  readonly widened: number;
  readonly largestWeight: number;
  /** Bytes of weights of convolutions. */
  readonly convolutions: number;
  readonly fixed: number;
  readonly each: number;
}

/**
 * How much of a weight a session holds, relative to float32. Less than 1: it holds the weight as it is stored, and widens it in
 * every run.
 */
export type HeldShare = (name: string) => number;

/** The cost of a group for this many rows in a run. The memory of values depends only on the length of the slice. */
export function groupCost(group: Group, sizes: Flow["sizes"], rows: number, held: HeldShare = () => 1): GroupCost {
  const at = (length: number) => buildSlice(group, sizes, costSource().source, rows, length);
  const whole = at(group.length);
  const most = activationBytes(whole);
  const weights = weightCost(topologicalOrder(Object.values(whole)), held);
  if (group.length === 1) return { ...weights, fixed: most, each: 0 };
  const one = activationBytes(at(1));
  const each = (most - one) / (group.length - 1);
  return { ...weights, fixed: one - each, each };
}

/** Weights of a graph, and the ones that norms without a scale multiply with: made when the session loads, as large as a picture. */
function weightCost(nodes: readonly Node[], held: HeldShare): Omit<GroupCost, "fixed" | "each"> {
  const cost = { weights: 0, widened: 0, largestWeight: 0, convolutions: 0 };
  for (const { op, data, inputs, outputs } of nodes) {
    const size = outputs[0] ? bytes(outputs[0]) : 0;
    if (op === "Conv") cost.convolutions += bytes(inputs[1]!);
    if (op === "Expand" && inputs[0]?.node.op === "Constant") cost.weights += size;
    if (op !== "Weight" || !data || !("file" in data)) continue;
    const share = held(data.file);
    cost.weights += share * size;
    if (share < 1) cost.widened += size;
    cost.largestWeight = Math.max(cost.largestWeight, size);
  }
  return cost;
}
