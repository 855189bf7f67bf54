/** An episode as it was played: a [state, action, reward, next state] for each step. */
export interface Episode {
  /** For how many steps at its start the episode followed the baseline. */
  readonly baselineSteps: number;
  readonly steps: readonly (readonly [state: number, action: number, reward: number, next: number])[];
}
