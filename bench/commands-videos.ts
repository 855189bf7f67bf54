/** Streamlined Inference: memory at published sizes, and Step Rehash on the embedded video model. */
import { commandBench, list, pick } from "./command.ts";
import { idOf } from "./result.ts";
import { type Column, formatted, numbers, words } from "./table.ts";

const geometries: Readonly<Record<string, string>> = {
  "animatediff-128": "128 x 128",
  "animatediff-256": "256 x 256",
  "animatediff-512": "512 x 512",
  "animatediff-1024x576": "1024 x 576",
  "svd-1024x576": "Stable Video Diffusion, 1024 x 576",
};

const measured: readonly Column[] = [
  numbers("peak memory", "peakBytes", "2G", " GB"),
  numbers("predicted", "predictedBytes", "2G", " GB"),
  numbers("seconds", "seconds", "1"),
  numbers("largest difference", "maxRelativeError", "1e"),
];

export const memory = commandBench({
  name: "memory",
  summary: "peak memory and time of one call of a video UNet, by budget, at published sizes (needs 24 GB of memory)",
  time: "3 h",
  runs: [
    ["bench", "streamlined", "--geometry", "animatediff-128", "--budgets", "600MB,6.5GB"],
    ["bench", "streamlined", "--geometry", "animatediff-256", "--budgets", "700MB,1.2GB"],
    ["bench", "streamlined", "--geometry", "animatediff-512", "--budgets", "8GB,2.2GB"],
    ["bench", "streamlined", "--geometry", "animatediff-1024x576", "--budgets", "12GB,6GB"],
    ["bench", "streamlined", "--geometry", "svd-1024x576", "--budgets", "8GB"],
  ],
  rows: (printed) => {
    const geometry = String(printed["geometry"]);
    return list(printed, "rows").map((row) => ({
      id: idOf(geometry, String(row["mode"])),
      geometry,
      ...pick(row, "mode", "peakBytes", "predictedBytes", "weightBytes", "seconds", "maxRelativeError"),
    }));
  },
  tables: {
    all: {
      columns: [
        ["pixels", ({ geometry }, before) => (geometry === before?.["geometry"] ? "" : geometries[String(geometry)]!)],
        words("budget", "mode"),
        ...measured,
      ],
    },
  },
});

const videoNames: Readonly<Record<string, string>> = {
  rehash: "**Step Rehash**, 13 of 25 steps full (the default)",
  "step-rehash-3-5": "Step Rehash, 11 of 25 steps full",
  again: "the noise of the last full step again, on the default's schedule",
};

const speedup = numbers("speed-up", "speedup", "2", "x");
const psnr: Column = ["PSNR to 25 full steps", ({ id, psnr }) => (id === "full" ? "" : `${formatted(psnr, "1")} dB`)];

export const rehash = commandBench({
  name: "rehash",
  summary: "Step Rehash on the embedded video model, beside fewer steps in the same time",
  time: "10 min",
  runs: [["bench", "streamlined", "--model", "fluent-emoji-motion", "--schedule", "3:7", "3:5"]],
  rows: (printed) =>
    list(printed, "rows").map((row, i) => ({
      id: rehashId(String(row["mode"]), i),
      ...pick(row, "mode", "fullSteps", "secondsPerVideo", "speedup", "psnr", "ssim", "fdFrames", "fdMotion"),
    })),
  tables: {
    all: {
      columns: [
        words("", "mode", videoNames),
        numbers("full steps", "fullSteps", "0"),
        numbers("seconds a video", "secondsPerVideo", "2"),
        speedup,
        psnr,
        numbers("SSIM", "ssim", "3"),
        numbers("Fréchet distance of frames", "fdFrames", "4", "", { zero: "0" }),
        numbers("of motion", "fdMotion", "4", "", { zero: "0" }),
      ],
    },
  },
});

function rehashId(mode: string, i: number): string {
  if (i === 0) return "full";
  if (mode === "Step Rehash") return "rehash";
  if (mode === "noise again") return "again";
  return /^\d+ full steps$/.test(mode) ? "fewer" : idOf(mode);
}
