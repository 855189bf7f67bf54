/** Quality of the images of each mode of `bench ilf`, with intervals. */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Picture } from "../../media/picture.ts";
import { alignments } from "../../metrics/alignment.ts";
import { captionsFor } from "../../metrics/evaluate.ts";
import { featureStatistics, frechetDistance } from "../../metrics/frechet.ts";
import type { Judge, JudgedPictures } from "../../metrics/judge.ts";
import { finitePsnr, ssim } from "../../metrics/similarity.ts";
import { pickRows } from "../../sampling/guidance.ts";
import { trimmedMean } from "./averages.ts";
import type { Mode } from "./ilf-modes.ts";

/** The scores of one mode. */
export interface Measured {
  readonly mode: Mode;
  readonly pictures: Picture[];
  readonly seconds: number[];
  /** Mean over the images. */
  fullSteps: number;
}

/** Value and 95 % bootstrap interval. */
type Interval = readonly [value: number, low: number, high: number];

export interface Row {
  mode: string;
  fullSteps: number;
  secondsPerImage: number;
  speedup: number;
  fdData: number;
  fdReference: number;
  psnr: number;
  ssim: number;
  alignment: number;
  intervals: Record<"secondsPerImage" | "fdData" | "fdReference" | "psnr" | "ssim" | "alignment", [number, number]>;
  settings: Mode["acceleration"];
}

export async function score(measured: readonly Measured[], judge: Judge, samples: number): Promise<Row[]> {
  const reference = await judge.reference();
  const captions = captionsFor(reference, samples).map((caption) => reference.captions[caption]!.text);
  const texts = await judge.embedCaptions(captions);
  const data = featureStatistics(reference.real.features);
  const judged: JudgedPictures[] = [];
  for (const { pictures } of measured) judged.push(await judge.judgePictures(pictures));
  const best = measured.findIndex(({ mode }) => mode.steps === 50);
  const many = featureStatistics(judged[best]!.features);
  const plain = measured[0]!;
  return measured.map((row, i) => {
    const { features, embeds } = judged[i]!;
    const distances = row.pictures.map((picture, k) => [
      finitePsnr(picture, plain.pictures[k]!),
      ssim(picture, plain.pictures[k]!),
    ]);
    const cosines = alignments(embeds, texts);
    const seconds = bootstrap(samples, (pick) => trimmedMean(pick.map((k) => row.seconds[k]!)));
    const [psnrs, ssims] = [0, 1].map((j) =>
      bootstrap(samples, (pick) =>
        meanOf(
          distances.map((pair) => pair[j]!),
          pick,
        ),
      ),
    ) as [Interval, Interval];
    const aligned = bootstrap(samples, (pick) => meanOf(cosines, pick));
    // A distance between 192 x 192 covariances takes a while, so there are fewer resamplings.
    const fds = [data, many].map((to) =>
      bootstrap(samples, (pick) => frechetDistance(featureStatistics(pickRows(features, pick)), to), 40),
    ) as [Interval, Interval];
    return {
      mode: row.mode.name,
      fullSteps: row.fullSteps,
      secondsPerImage: seconds[0],
      speedup: trimmedMean(plain.seconds) / trimmedMean(row.seconds),
      fdData: fds[0][0],
      fdReference: fds[1][0],
      psnr: psnrs[0],
      ssim: ssims[0],
      alignment: aligned[0],
      intervals: {
        secondsPerImage: [seconds[1], seconds[2]],
        fdData: [fds[0][1], fds[0][2]],
        fdReference: [fds[1][1], fds[1][2]],
        psnr: [psnrs[1], psnrs[2]],
        ssim: [ssims[1], ssims[2]],
        alignment: [aligned[1], aligned[2]],
      },
      settings: row.mode.acceleration,
    };
  });
}

/**
 * The value on all samples, and how far the middle 95 % of those on resamplings lie around their own median: a
 * Fréchet distance of a resampling is larger by itself, because some samples are in it twice.
 */
function bootstrap(samples: number, value: (pick: readonly number[]) => number, times = 400): Interval {
  const generator = xoroshiro128plus(1);
  const all = Array.from({ length: samples }, (_, i) => i);
  const resampled = () => all.map(() => Math.floor(uniformFloat64(generator) * samples));
  const values = Array.from({ length: times }, () => value(resampled())).sort((a, b) => a - b);
  const at = (share: number) => values[Math.min(times - 1, Math.floor(share * times))]!;
  const whole = value(all);
  return [whole, whole + at(0.025) - at(0.5), whole + at(0.975) - at(0.5)];
}

const meanOf = (values: readonly number[], pick: readonly number[]) =>
  pick.reduce((sum, i) => sum + values[i]!, 0) / pick.length;
