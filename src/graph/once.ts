/** Splits a graph by what stays the same from run to run: what is multiplied out of that alone need not be computed at every run. */
import { input, makeNode, type Node, topologicalOrder, type Value } from "./value.ts";

/** Prefix of the values that pass from one graph to the other. */
const ONCE = "once.";

/** Operators that are worth keeping the result of. Whatever else there is between them costs less than it takes to keep. */
const products: ReadonlySet<string> = new Set(["Gemm", "MatMul", "Conv"]);

/** Two graphs that give together what one gave. */
export interface SplitGraph {
  /** The outputs that follow from the constant inputs alone, and the products that `each` reads as inputs of the same names. */
  readonly once: Readonly<Record<string, Value>>;
  /** All other outputs. */
  readonly each: Readonly<Record<string, Value>>;
}

/** Null where nothing could be computed once, or nothing but that. `constant`: names of inputs. */
export function splitOnce(outputs: Readonly<Record<string, Value>>, constant: ReadonlySet<string>): SplitGraph | null {
  if (constant.size === 0) return null;
  const order = topologicalOrder(Object.values(outputs));
  const known = knownOnce(order, constant);
  const isOnce = (value: Value) => known.has(value.node);
  const kept = new Map<Value, string>();
  const keep = (value: Value): void => {
    if (!isOnce(value) || kept.has(value)) return;
    if (products.has(value.node.op)) kept.set(value, ONCE + kept.size);
    else for (const before of value.node.inputs) if (before) keep(before);
  };
  for (const node of order) if (!known.has(node)) for (const value of node.inputs) if (value) keep(value);
  const [own, others] = [true, false].map((which) =>
    Object.entries(outputs).filter(([, value]) => isOnce(value) === which),
  ) as [[string, Value][], [string, Value][]];
  if ((kept.size === 0 && own.length === 0) || others.length === 0) return null;
  const names = others.map(([name]) => name);
  const replaced = withInputs(
    others.map(([, value]) => value),
    kept,
  );
  return {
    once: Object.fromEntries([...own, ...[...kept].map(([value, name]) => [name, value] as const)]),
    each: Object.fromEntries(names.map((name, i) => [name, replaced[i]!])),
  };
}

/** The nodes that depend on constant inputs, and on no other ones. Weights are neither. */
function knownOnce(order: readonly Node[], constant: ReadonlySet<string>): ReadonlySet<Node> {
  const once = new Set<Node>();
  const changing = new Set<Node>();
  for (const node of order) {
    const before = node.inputs.flatMap((value) => (value ? [value.node] : []));
    const isInput = node.op === "Input";
    if (isInput ? !constant.has(node.name!) : before.some((each) => changing.has(each))) changing.add(node);
    else if (isInput || before.some((each) => once.has(each))) once.add(node);
  }
  return once;
}

/** The same values, computed from inputs of these names where they were computed from values. */
function withInputs(values: readonly Value[], names: ReadonlyMap<Value, string>): Value[] {
  const made = new Map<Value, Value>();
  for (const [value, name] of names) made.set(value, input(name, value.shape, value.dtype));
  for (const node of topologicalOrder(values)) {
    if (!node.inputs.some((value) => value && made.has(value))) continue;
    const { op, domain, attributes, name, data } = node;
    const inputs = node.inputs.map((value) => (value ? (made.get(value) ?? value) : null));
    const again = makeNode(op, inputs, node.outputs, attributes as Record<string, never>, {
      domain,
      ...(name !== undefined && { name }),
      ...(data !== undefined && { data }),
    });
    for (const [i, output] of node.outputs.entries()) if (!names.has(output)) made.set(output, again[i]!);
  }
  return values.map((value) => made.get(value) ?? value);
}
