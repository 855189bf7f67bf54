/** Environments by name, with options: "riverswim:states=4,horizon=8". */
import { type Check, number, readDecimal, whole } from "../../../checks.ts";
import { ArgumentError } from "../../../errors.ts";
import { limits, type Mdp } from "../mdp.ts";
import { type MdpFile, mdpFromJson } from "./file.ts";
import { cliffWalking, frozenLake, type GymnasiumTable } from "./gymnasium.ts";
import { inventory, streaming } from "./operations.ts";
import { chain, gridworld, randomMdp, riverSwim } from "./synthetic.ts";

interface Named {
  readonly create: (options: Record<string, number>) => Mdp;
  readonly options: Readonly<Record<string, Check>>;
}

const states = whole(1, limits.states);
const actions = whole(1, limits.actions);
const horizon = whole(1, limits.horizon);
const slip = number(0, 1);
const seed = whole(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);

const environments: ReadonlyMap<string, Named> = new Map(
  Object.entries<Named>({
    random: { create: randomMdp, options: { states, actions, horizon, seed } },
    riverswim: { create: riverSwim, options: { states, horizon } },
    gridworld: { create: gridworld, options: { horizon, slip } },
    chain: { create: chain, options: { states, horizon, slip } },
    inventory: { create: inventory, options: { horizon } },
    streaming: { create: streaming, options: { horizon, levels: states } },
    "frozen-lake": { create: frozenLake, options: { horizon } },
    "cliff-walking": { create: cliffWalking, options: { horizon } },
  }),
);
export const environmentNames = [...environments.keys()];

/** Builds the MDP from a name with options, or from a file's content. */
export function environment(env: string | MdpFile | GymnasiumTable): Mdp {
  if (typeof env !== "string") return mdpFromJson(env);
  const colon = env.indexOf(":");
  const name = colon < 0 ? env : env.slice(0, colon);
  const named = environments.get(name);
  if (!named) {
    throw new ArgumentError(
      `There is no environment "${name.slice(0, 60)}", and no such file; choose one of ${environmentNames.join(", ")}.`,
    );
  }
  return named.create(colon < 0 ? {} : readOptions(env.slice(colon + 1), name, named.options));
}

function readOptions(list: string, name: string, known: Named["options"]): Record<string, number> {
  const found = new Map<string, number>();
  for (const pair of list.split(",")) {
    const equals = pair.indexOf("=");
    const [key, value] = [pair.slice(0, equals), readDecimal(pair.slice(equals + 1))];
    if (equals < 0 || Number.isNaN(value)) {
      throw new ArgumentError(`"${pair.slice(0, 60)}" is no option of an environment: write name=number.`);
    }
    if (!Object.hasOwn(known, key)) {
      throw new ArgumentError(`${name} has no option "${key.slice(0, 60)}"; it has ${Object.keys(known).join(", ")}.`);
    }
    if (found.has(key)) throw new ArgumentError(`${name} has its option ${key} given twice.`);
    known[key]!(value, `${name}'s ${key}`);
    found.set(key, value);
  }
  return Object.fromEntries(found);
}
