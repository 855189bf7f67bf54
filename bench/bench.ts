/** What a bench is: one entry of the table in benches.ts. */
import type { Command } from "commander";
import type { Row } from "./result.ts";
import type { Table } from "./table.ts";

export interface Bench<Options extends object = object> {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** About how long it takes on two cores. */
  readonly time: string;
  /** Adds its options. `--seed`, `--record` and `--note` are added for every bench. */
  options?(command: Command): Command;
  /** Gives rows as they are measured. */
  run(options: Options & CommonOptions, context: Context): AsyncIterable<Row>;
  /** Arguments of halfstep, of each of its runs, if it is a command of halfstep. */
  readonly runs?: readonly (readonly string[])[];
  /** The tables that the documentation may have of it. The first is printed after a run. */
  readonly tables: Readonly<Record<string, Table>>;
}

export interface CommonOptions {
  readonly seed: number;
  /** Words after the options: what a bench that is a command of halfstep hands on. */
  readonly args: readonly string[];
}

export interface Context {
  /** Notes the version of something that a figure is compared with. */
  peer(name: string, version: string): void;
  /** Notes a command of halfstep that was run for the rows. */
  ran(command: string): void;
}
