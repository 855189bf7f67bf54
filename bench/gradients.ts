/** Every gradient rule against central finite differences. */
import { gradientTable } from "../test/support/gradient-error.ts";
import type { Bench } from "./bench.ts";
import { idOf } from "./result.ts";
import { numbers, words } from "./table.ts";

export const gradients: Bench = {
  name: "gradients",
  summary: "each operator's gradient against finite differences",
  time: "20 s",
  async *run() {
    for (const row of await gradientTable()) yield { id: idOf(row.operator), ...row };
  },
  tables: {
    all: {
      columns: [
        words("operator", "operator"),
        numbers("cases", "cases", "0"),
        numbers("largest error", "error", "1e"),
        words("in the case", "worst"),
      ],
    },
  },
};
