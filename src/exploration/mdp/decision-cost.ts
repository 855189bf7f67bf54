/** Limits on the cost of a decision: problems whose decisions would take minutes are refused at the start. */
import { ArgumentError } from "../../errors.ts";
import type { Problem } from "./problem.ts";

/**
 * The most rows that a decision of StepMix may back up. It evaluates H candidates, and candidate h0 backs up the steps before h0,
 * which makes H / 2 times all rows. A backup of the paper's bounds takes about 10 ns (four candidates at a time, in
 * WebAssembly), one of tight bounds up to 1.2 us once all rows were observed. At these limits a decision takes up to a minute
 * on one core; a first decision, with hardly any observations, takes a second.
 */
export const mostBackups = { paper: 4e9, tight: 5e7 };

/** Tight bounds store 2 kB per step about what the baseline earned. */
const mostTightSteps = 20_000;

type Sized = Pick<Problem, "horizon" | "states" | "actions" | "bounds">;

/**
 * Throws ArgumentError if a decision of StepMix would take minutes. The cost of other algorithms is proportional to the
 * rows.
 */
export function checkStepMix({ horizon, states, actions, bounds = "paper" }: Sized): void {
  const backups = (horizon * horizon * states * actions) / 2;
  const most = mostBackups[bounds];
  if (backups <= most) return;
  const longest = Math.floor(Math.sqrt((2 * most) / (states * actions)));
  const shorter = longest > 0 ? `a horizon of at most ${longest}, ` : "";
  const paper = bounds === "tight" && backups <= mostBackups.paper ? "the paper's bounds, " : "";
  throw new ArgumentError(
    `A decision of stepmix with ${bounds} bounds would back up ${backups.toExponential(1)} rows (horizon ${horizon} x states ` +
      `${states} x actions ${actions}, ${horizon} / 2 times over), which takes minutes; the limit is ${most.toExponential(0)}. Use ` +
      `${shorter}${paper}or another algorithm, such as epsmix.`,
  );
}

/** Throws ArgumentError for a horizon that is too long for tight bounds. */
export function checkTight({ horizon, bounds }: Pick<Sized, "horizon" | "bounds">): void {
  if (bounds !== "tight" || horizon <= mostTightSteps) return;
  throw new ArgumentError(
    `The horizon ${horizon} is too long for tight bounds, whose limit is ${mostTightSteps} steps: use the paper's bounds.`,
  );
}
