/**
 * The feedback module with what was added to the paper's. The block's input is told what is new at this step:
 *
 *     g  = h + (embed(x') - embed(x)) + trendScale * trend
 *     h' = g + scale * (F(g, t', caption) - g)
 *
 * with one number of trendScale and scale a channel, both zero at first. Or it is mixed, so that what was added up there can be
 * told apart:
 *
 *     g  = h + (embed(x') - embed(x)) + M ((1 + gate(t')) * [embed(x') - embed(x), embed(x'), trend, h])
 *     h' = g + scale(t') * (F(g, t', caption) - g)
 *
 * with a matrix M and linear maps gate and scale of the time's sinusoids, all of which start at zero.
 */
import { add, concat, mul, reshape, sub } from "../graph/operators.ts";
import { staticDim, type Value } from "../graph/value.ts";
import type { Features } from "../models/architecture.ts";
import { linear, sinusoidalEmbedding } from "../models/layers.ts";
import type { ExtendedModule } from "./config.ts";
import type { ModuleBuilder, StreamInputs } from "./module-builder.ts";

export function extendedBuilder({ reads, combine }: ExtendedModule): ModuleBuilder {
  const [readsChange, readsTrend] = [reads.includes("embeddingChange"), reads.includes("trend")];
  const changeOf = ({ embedding, carriedEmbedding }: StreamInputs) =>
    readsChange ? sub(embedding!, carriedEmbedding!) : null;
  const moved = (carried: Value, change: Value | null) => (change ? add(carried, change) : carried);
  const parts = [
    ...(readsChange ? (["embedding", "carriedEmbedding"] as const) : []),
    ...(readsTrend ? (["trend"] as const) : []),
  ];
  if (combine === "sum") {
    return {
      reads: parts,
      readsTime: false,
      start: (stream, w) => {
        const g = moved(stream.carried!, changeOf(stream));
        if (!readsTrend) return g;
        return add(g, mul(stream.trend!, w.tensor("trend_scale", [staticDim(g, -1, "feedback")])));
      },
      scale: (width, w) => w.tensor("scale", [width]),
    };
  }
  return {
    reads: parts,
    readsTime: true,
    start: (stream, w, features) => {
      const { carried, embedding, trend } = stream;
      const change = changeOf(stream);
      const known = concat([...(change ? [change, embedding!] : []), ...(readsTrend ? [trend!] : []), carried!], -1);
      const width = staticDim(known, -1, "feedback");
      const gate = reshape(linear(sinusoidsOf(features), w.at("gate"), width), [-1, 1, width]);
      const gated = mul(known, add(gate, 1));
      const mixed = linear(gated, w.at("mix"), staticDim(carried!, -1, "feedback"), { bias: false });
      return add(moved(carried!, change), mixed);
    },
    scale: (width, w, features) => reshape(linear(sinusoidsOf(features), w.at("scale"), width), [-1, 1, width]),
  };
}

const sinusoidsOf = ({ timestep }: Features): Value => sinusoidalEmbedding(mul(timestep!, 1 / TIME_UNIT), SINUSOIDS);

/**
 * Timesteps count to 1000. The fastest sinusoid turns once in 126 of them, so that what is learned at the sampler's steps
 * holds between them too.
 */
const TIME_UNIT = 20;
const SINUSOIDS = 64;
