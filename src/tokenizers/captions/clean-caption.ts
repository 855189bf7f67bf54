/**
 * How PixArt's pipelines clean a prompt before it is tokenised (diffusers' `clean_caption`, which they took over from DeepFloyd IF, which
 * has it from the cleaning of LAION's captions): addresses, markup, file names, product numbers and most punctuation go. The patterns
 * are those of Python's `re`, whose classes are wider than JavaScript's.
 */
import { decodeHTML } from "entities";
import { fixText } from "./fix-text.ts";
import { htmlText } from "./html-text.ts";

/** Characters of a prompt that are cleaned: no text encoder reads as many. Some patterns take time with the square of the length. */
const MOST_CLEANED = 8192;

/** A prompt as PixArt's text encoder was trained on it, in lower case. What is beyond 8192 characters is left as it is. */
export function cleanCaption(prompt: string): string {
  const end = prompt.length > MOST_CLEANED ? wholeCharacters(prompt, MOST_CLEANED) : prompt.length;
  // Twice, as diffusers does: what the first round takes away may lay bare what the second does.
  const cleaned = cleanOnce(cleanOnce(prompt.slice(0, end)));
  return end === prompt.length ? cleaned : `${cleaned}${prompt.slice(end).toLowerCase().trimEnd()}`;
}

/** Not between the two halves of a character. */
const wholeCharacters = (text: string, end: number) => (/[\ud800-\udbff]/.test(text[end - 1]!) ? end - 1 : end);

type Rule = readonly [pattern: RegExp, replacement: string];

/** Python's \w, \s and \d for text, within a class, and its \b. */
const word = "\\p{L}\\p{N}_";
const space = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const edge = `(?:(?<=[${word}])(?![${word}])|(?<![${word}])(?=[${word}]))`;

/** A pattern in Python's notation: `\w`, `\s`, `\S`, `\d`, `\D` and `\b` are put in here. */
function python(pattern: string): RegExp {
  const classes: Readonly<Record<string, readonly [inside: string, outside: string]>> = {
    w: [word, `[${word}]`],
    s: [space, `[${space}]`],
    S: ["", `[^${space}]`],
    d: ["\\p{Nd}", "\\p{Nd}"],
    D: ["\\P{Nd}", "\\P{Nd}"],
    b: ["", edge],
  };
  let inside = false;
  const source = pattern.replace(/\\(.)|[[\]]/g, (whole: string, escaped: string | undefined) => {
    if (escaped === undefined) inside = whole === "[";
    const known = escaped === undefined ? undefined : classes[escaped];
    return known ? known[inside ? 0 : 1] : whole;
  });
  return new RegExp(source, "gu");
}

const rule = (pattern: string, replacement = ""): Rule => [python(pattern), replacement];

const host = String.raw`[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w\/\-]*\b\/?(?!@)`;
const addresses: readonly Rule[] = [
  rule("<person>", "person"),
  rule(String.raw`\b(?:https?:(?:\/{1,3}|[a-zA-Z0-9%])|${host})`),
  rule(String.raw`\b(?:www:(?:\/{1,3}|[a-zA-Z0-9%])|${host})`),
];

/** After the text of the markup is taken. */
const punctuation: readonly Rule[] = [
  rule(String.raw`@[\w]+\b`), // @nickname
  // Chinese characters and their strokes, katakana extensions, enclosed and squared letters, hexagrams.
  rule("[\\u31c0-\\u31ef\\u31f0-\\u31ff\\u3200-\\u4dff\\u4e00-\\u9fff]+"),
  // Every dash is one dash.
  rule(
    "[\\-\\u058a\\u05be\\u1400\\u1806\\u2010-\\u2015\\u2e17\\u2e1a\\u2e3a\\u2e3b\\u2e40\\u301c\\u3030\\u30a0\\ufe31\\ufe32\\ufe58\\ufe63\\uff0d]+",
    "-",
  ),
  rule("[`´«»“”¨]", '"'),
  rule("[‘’]", "'"),
  rule("&quot;?"),
  rule("&amp"),
  rule(String.raw`\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}`, " "), // 192.168.1.1
  rule(String.raw`\d:\d\d\s+$`),
  rule(String.raw`\\n`, " "), // a written \n
  rule(String.raw`#\d{1,3}\b`),
  rule(String.raw`#\d{5,}\b`),
  rule(String.raw`\b\d{6,}\b`),
  rule(String.raw`\S+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)`),
  rule(`["']{2,}`, '"'),
  rule(String.raw`[\.]{2,}`, " "),
  rule(String.raw`[#®•©™&@·º½¾¿¡§~\)\(\]\[\}\{\|\\\/\*]+`, " "),
  rule(String.raw`\s+\.\s+`, " "),
];

/** this-is-my-cute-cat, this_is_my_cute_cat: with more than three of them they stand for spaces. */
const joiners = /[-_]/g;

/** After the characters are repaired. */
const words: readonly Rule[] = [
  rule(String.raw`\b[a-zA-Z]{1,3}\d{3,15}\b`), // jc6640
  rule(String.raw`\b[a-zA-Z]+\d+[a-zA-Z]+\b`), // jc6640vc
  rule(String.raw`\b\d+[a-zA-Z]+\d+\b`), // 6640vc231
  rule(String.raw`(?:worldwide\s+)?(?:free\s+)?shipping`),
  rule(String.raw`(?:free\s)?download(?:\sfree)?`),
  rule(String.raw`\bclick\b\s(?:for|on)\s\w+`),
  rule(String.raw`\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simage[s]?)?`),
  rule(String.raw`\bpage\s+\d+\b`),
  rule(String.raw`\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b`, " "), // j2d1a2a
  rule(String.raw`\b\d+\.?\d*[xх×]\d+\.?\d*\b`), // 512x512
  rule(String.raw`\b\s+:\s+`, ": "),
  rule(String.raw`(\D[,\.\/])\b`, "$1 "),
  rule(String.raw`\s+`, " "),
  rule(`^["']([^]+)["']$`, "$1"),
  rule(String.raw`^['_,\-:;]`),
  rule(String.raw`['_,\-:+]$`),
  rule(String.raw`^\.\S+$`),
];

const apply = (rules: readonly Rule[], text: string) =>
  rules.reduce((result, [pattern, replacement]) => result.replace(pattern, replacement), text);

const ends = new RegExp(`^[${space}]+|[${space}]+$`, "gu");
const strip = (text: string) => text.replace(ends, "");

function cleanOnce(prompt: string): string {
  let caption = apply(addresses, strip(unquote(prompt)).toLowerCase());
  caption = apply(punctuation, htmlText(caption));
  if ((caption.match(joiners) ?? []).length > 3) caption = caption.replace(joiners, " ");
  return strip(apply(words, decodeHTML(decodeHTML(fixText(caption)))));
}

/** "a+red%20apple" as "a red apple": Python's unquote_plus. What is no UTF-8 becomes U+FFFD, as there. */
function unquote(text: string): string {
  const spaced = text.replaceAll("+", " ");
  if (!spaced.includes("%")) return spaced;
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  // Bytes of one run of plain letters and codes belong together.
  return spaced.replace(/[\0-\x7f]+/g, (run) => {
    if (!run.includes("%")) return run;
    const bytes: number[] = [];
    for (let i = 0; i < run.length; i++) {
      const code = /^%([0-9a-f]{2})/i.exec(run.slice(i, i + 3));
      bytes.push(code ? Number.parseInt(code[1]!, 16) : run.charCodeAt(i));
      if (code) i += 2;
    }
    return decoder.decode(Uint8Array.from(bytes));
  });
}
