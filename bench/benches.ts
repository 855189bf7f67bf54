/** Every bench there is: one entry here is one line of `npm run bench` and one file in bench/results/. */
import type { Bench } from "./bench.ts";
import { evaluation, guidance, ilf, ilfSizes, ilfTraining } from "./commands-images.ts";
import { regretPaper, regretSix, regretTight } from "./commands-regret.ts";
import { memory, rehash } from "./commands-videos.ts";
import { engine } from "./engine.ts";
import { exploration } from "./exploration.ts";
import { familiesBench } from "./families.ts";
import { gradients } from "./gradients.ts";
import { reference } from "./reference.ts";
import { rehashStills } from "./rehash-stills.ts";
import { trainer } from "./trainer.ts";
import { worker } from "./worker.ts";

export const benches: readonly Bench[] = [
  reference,
  gradients,
  engine,
  worker,
  trainer,
  evaluation,
  guidance,
  ilf,
  ilfSizes,
  ilfTraining,
  memory,
  rehash,
  rehashStills,
  familiesBench,
  exploration,
  regretTight,
  regretPaper,
  regretSix,
];
