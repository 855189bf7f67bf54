/** Environment variables for models from the Hub: one table for help and docs, and functions that read them. */
import { homedir } from "node:os";
import { join } from "node:path";
import { ArgumentError } from "../errors.ts";

/** An environment variable that halfstep reads. */
export interface EnvironmentVariable {
  readonly name: string;
  /** Its meaning in a phrase, for help and docs. */
  readonly meaning: string;
}

/** Environment variables that halfstep reads. Each has an option with the same meaning, which takes precedence. */
export const environmentVariables: readonly EnvironmentVariable[] = [
  { name: "HF_TOKEN", meaning: "access token for gated and private models on the Hub (hf_...)" },
  { name: "HF_ENDPOINT", meaning: "address of the Hub or of a mirror (https://huggingface.co)" },
  { name: "HF_HUB_OFFLINE", meaning: "1: use what is in the cache and connect to nothing" },
  { name: "HALFSTEP_CACHE", meaning: "folder of downloaded models (~/.cache/halfstep)" },
  {
    name: "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
    meaning: "proxies to reach the Hub through, and hosts that need none",
  },
];

export const HUB_URL = "https://huggingface.co";

/** The folder in which downloaded models are kept. */
export function cacheDirectory(): string {
  return process.env["HALFSTEP_CACHE"] || join(homedir(), ".cache", "halfstep");
}

/** The Hub's address, `given` or from the environment, without a final slash. Throws ArgumentError. */
export function hubEndpoint(given?: string): string {
  const text = given ?? (process.env["HF_ENDPOINT"] || HUB_URL);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url && !url.username && !url.password && !url.search && !url.hash;
  if (plain && /^https?:$/.test(url.protocol)) return url.href.replace(/\/+$/, "");
  throw new ArgumentError(
    "The Hub's address (HF_ENDPOINT) must be http:// or https:// with a host and perhaps a path, and nothing else.",
  );
}

/** The access token, `given` or from the environment. It never appears in a message. Throws ArgumentError. */
export function hubToken(given?: string): string | undefined {
  const token = given ?? (process.env["HF_TOKEN"] || undefined);
  if (token === undefined) return undefined;
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new ArgumentError(
      "The access token (HF_TOKEN) has a line break, a space or another character that a token cannot have; it is not sent.",
    );
  }
  if (token.startsWith("hf_")) return token;
  throw new ArgumentError('The access token (HF_TOKEN) does not start with "hf_", as those of the Hub do.');
}

/** Whether the network must not be used. */
export function isOffline(given?: boolean): boolean {
  return given ?? /^(1|true|yes|on)$/i.test(process.env["HF_HUB_OFFLINE"] ?? "");
}
