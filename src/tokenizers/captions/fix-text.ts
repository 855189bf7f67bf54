/**
 * What of Python's ftfy (6.3) can still happen to a caption that is in lower case and has no punctuation: ligatures, wide letters and
 * curled quotes become plain ones, control characters go, and UTF-8 that was read as Windows-1252 is put right where it can be.
 */
import { windows1252 } from "./html-text.ts";

const LIGATURES: Readonly<Record<string, string>> = {
  ĳ: "ij",
  ŉ: "\u02bcn",
  ǳ: "dz",
  ǆ: "dž",
  ǉ: "lj",
  ǌ: "nj",
  ﬀ: "ff",
  ﬁ: "fi",
  ﬂ: "fl",
  ﬃ: "ffi",
  ﬄ: "ffl",
  ﬅ: "ſt",
  ﬆ: "st",
};

export function fixText(text: string): string {
  if (/^[\x20-\x7e\n\t]*$/.test(text)) return text;
  return repairEncoding(text)
    .replace(/[\x80-\x9f]/g, (character) => windows1252(character.charCodeAt(0)))
    .replace(/[ĳŉǳǆǉǌ\ufb00-\ufb06]/g, (ligature) => LIGATURES[ligature]!)
    .replace(/[\u3000\uff01-\uffef]/g, (character) => character.normalize("NFKC"))
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/\r\n|[\r\u2028\u2029\x85]/g, "\n")
    .replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd")
    .replace(/\p{Cc}|[\u206a-\u206f\ufeff\ufff9-\ufffb]/gu, (character) =>
      /[\t\n\f\r]/.test(character) ? character : "",
    )
    .normalize("NFC");
}

/** Bytes that Windows-1252 has for a character, by character. */
const bytes = new Map(
  Array.from({ length: 128 }, (_, i) => 0x80 + i).map((byte) => [
    byte < 0xa0 ? windows1252(byte) : String.fromCharCode(byte),
    byte,
  ]),
);
const decoder = new TextDecoder("utf-8", { fatal: true });
/** Characters that stand for a byte within a sequence. */
const following = [...bytes].flatMap(([character, byte]) => (byte < 0xc0 ? [character] : [])).join("");
const sequences = new RegExp(`[à-ï][${following}][${following} ]|[ð-ô][${following}]{3}`, "g");

/**
 * Sequences of three and four bytes, as in "â˜€" for "☀"; a space at the end of three was a no-break space. Those of two begin
 * with a capital letter, which a caption in lower case no longer has.
 */
function repairEncoding(text: string): string {
  return text.replace(sequences, (sequence) => {
    const encoded = [...sequence].map((character) => (character === " " ? 0xa0 : bytes.get(character)!));
    try {
      return decoder.decode(Uint8Array.from(encoded));
    } catch {
      return sequence;
    }
  });
}
