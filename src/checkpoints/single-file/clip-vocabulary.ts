/** The vocabulary of all CLIP models (Radford et al. 2021), which single-file checkpoints do not contain. */

/** The characters that represent bytes: printable ones represent themselves, the others are numbered from U+0100. */
function byteCharacters(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const own = bytes.filter(printable).map((byte) => String.fromCodePoint(byte));
  const others = bytes.filter((byte) => !printable(byte)).map((_, i) => String.fromCodePoint(256 + i));
  return [...own, ...others];
}

async function merges(): Promise<string[]> {
  const { mergesInGzip } = await import("./clip-merges.ts");
  const bytes = Uint8Array.from(atob(mergesInGzip), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).text()).split("\n");
}

export interface ClipVocabulary {
  /** `vocab.json` and `merges.txt`, as transformers writes them. */
  readonly vocab: string;
  readonly merges: string;
}

let made: Promise<ClipVocabulary> | undefined;

/** Made at first use and then kept: 1.4 MB. */
export function clipVocabulary(): Promise<ClipVocabulary> {
  made ??= merges().then((lines) => {
    const characters = byteCharacters();
    const tokens = [
      ...characters,
      ...characters.map((character) => `${character}</w>`),
      ...lines.map((line) => line.replace(" ", "")),
      "<|startoftext|>",
      "<|endoftext|>",
    ];
    const ids = Object.fromEntries(tokens.map((token, id) => [token, id]));
    return { vocab: JSON.stringify(ids), merges: `#version: 0.2\n${lines.join("\n")}\n` };
  });
  return made;
}
