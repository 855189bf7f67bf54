/** Reverse-mode differentiation: the backward pass of a graph as more nodes of the same graph. */
import { HalfstepError, ShapeError } from "../errors.ts";
import { add } from "./operators.ts";
import { type Node, scalar, topologicalOrder, type Value } from "./value.ts";
import { vjp, zerosLike } from "./vjp.ts";

/**
 * The gradients of a scalar `loss` with respect to `targets` (any values of its graph; zeros for one that the loss does
 * not depend on). `seeds` are gradients of further outputs, for a vector-Jacobian product without a scalar loss.
 */
export function gradients(
  loss: Value | null,
  targets: readonly Value[],
  seeds: readonly (readonly [Value, Value])[] = [],
): Value[] {
  if (loss && loss.shape.length > 0) throw new ShapeError(`gradients: the loss must be a scalar, got [${loss.shape}]`);
  const outputs = [...(loss ? [loss] : []), ...seeds.map(([output]) => output)];
  const order = topologicalOrder(outputs);
  const needed = nodesBetween(order, targets);
  const collected = new Map<Value, Value>();
  const collect = (value: Value, gradient: Value) => {
    const before = collected.get(value);
    collected.set(value, before ? add(before, gradient) : gradient);
  };
  for (const [output, gradient] of seeds) collect(output, gradient);
  if (loss) collect(loss, scalar(1));

  for (const node of order.reverse()) {
    const dy = node.outputs.map((output) => collected.get(output) ?? null);
    const reaches = node.inputs.some((value) => value && needed.has(value.node));
    if (!reaches || dy.every((gradient) => gradient === null)) continue;
    const rule = vjp[node.op];
    if (!rule) throw new HalfstepError(`no gradient rule for operator ${node.op}`);
    const { outputs: values, attributes } = node;
    const dx = rule({ inputs: node.inputs as readonly Value[], outputs: values, attributes }, ...dy);
    node.inputs.forEach((value, i) => {
      if (value && dx[i] && needed.has(value.node)) collect(value, dx[i]);
    });
  }
  return targets.map((target) => collected.get(target) ?? zerosLike(target));
}

/** Nodes on a path from a target: only their gradients are worked out, so a frozen part costs nothing. */
function nodesBetween(order: readonly Node[], targets: readonly Value[]): Set<Node> {
  const needed = new Set<Node>(targets.map(({ node }) => node));
  for (const node of order) {
    if (node.inputs.some((value) => value && needed.has(value.node))) needed.add(node);
  }
  return needed;
}
