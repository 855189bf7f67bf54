/**
 * The feedback module of the paper (arXiv 2501.13107): a block of the backbone's kind, whose change of the features is tempered
 * by a scale s that is learned from zero:
 *
 *     g  = h
 *     h' = g + s * (F(g, t', caption) - g)
 *
 * with one number of s a channel. At s = 0 an inner step is plain caching.
 */
import type { ModuleBuilder } from "./module-builder.ts";

export const paperBuilder: ModuleBuilder = {
  reads: [],
  readsTime: false,
  start: ({ carried }) => carried!,
  scale: (width, w) => w.tensor("scale", [width]),
};
