/**
 * The text of a piece of HTML, as Python's html.parser (3.11) reads it and BeautifulSoup's `.text` puts it together: prompts are no
 * HTML, so what matters is what becomes of a lone "<", of "&" in the middle of a sentence, and of tags that never end.
 */
import { decodeHTMLStrict } from "entities";

/** Elements that never have an end. */
const VOID = new Set(
  "area base br col embed hr img input keygen link menuitem meta param source track wbr basefont bgsound command frame image isindex nextid spacer".split(
    " ",
  ),
);
/** Elements whose text is not text: BeautifulSoup leaves it out. */
const NO_TEXT = new Set(["rp", "rt", "script", "style", "template"]);
/** Of these, those in which nothing but their own end is markup. */
const RAW = new Set(["script", "style"]);

export function htmlText(html: string): string {
  if (!/[<&]/.test(html)) return html;
  const reader = new HtmlReader(html);
  // html.parser first reads all that it is sure of, and the rest once it knows that nothing more will come.
  reader.read(false);
  reader.read(true);
  return reader.text;
}

class HtmlReader {
  text = "";
  readonly #html: string;
  #at = 0;
  /** Elements that are open, the outermost first. */
  readonly #open: string[] = [];
  /** "script" or "style" while in one. */
  #raw: string | null = null;

  constructor(html: string) {
    this.#html = html;
  }

  read(final: boolean): void {
    const html = this.#html;
    while (this.#at < html.length) {
      const next = this.#nextMarkup();
      if (next === null) return;
      this.#data(html.slice(this.#at, next));
      this.#at = next;
      if (next === html.length) return;
      const done = html[next] === "<" ? this.#tag(final) : this.#reference(final);
      if (!done) break;
    }
    if (!final || this.#raw !== null) return;
    this.#data(html.slice(this.#at));
    this.#at = html.length;
  }

  /** Where the next "<" or "&" is, or the end; null within a script that does not end. */
  #nextMarkup(): number | null {
    const html = this.#html;
    if (this.#raw === null) {
      const found = html.slice(this.#at).search(/[&<]/);
      return found < 0 ? html.length : this.#at + found;
    }
    const end = html.slice(this.#at).search(new RegExp(`</\\s*${this.#raw}\\s*>`, "i"));
    return end < 0 ? null : this.#at + end;
  }

  #data(text: string): void {
    if (text !== "" && !this.#open.some((name) => NO_TEXT.has(name))) this.text += text;
  }

  /** Whether reading can go on. A tag without an end is text up to the next one. */
  #tag(final: boolean): boolean {
    const html = this.#html;
    const at = this.#at;
    if (!/^<[a-z/!?]/i.test(html.slice(at, at + 2))) {
      if (at + 1 === html.length) return false;
      this.#data("<");
      this.#at++;
      return true;
    }
    const end = this.#markup(at);
    if (end !== null) {
      this.#at = end;
      return true;
    }
    if (!final) return false;
    const [close, open] = [html.indexOf(">", at + 1), html.indexOf("<", at + 1)];
    const to = close >= 0 ? close + 1 : open >= 0 ? open : at + 1;
    this.#data(html.slice(at, to));
    this.#at = to;
    return true;
  }

  /** Reads a tag, a comment or a declaration; gives where it ends, or null if it does not. */
  #markup(at: number): number | null {
    const html = this.#html;
    const upTo = (mark: RegExp, from: number) => {
      const found = mark.exec(html.slice(from));
      return found ? from + found.index + found[0].length : null;
    };
    if (html.startsWith("</", at)) return this.#endTag(at);
    if (html.startsWith("<!--", at)) return upTo(/--\s*>/, at + 4);
    if (html.startsWith("<![cdata[", at)) return this.#cdata(at);
    if (/^<[!?]/.test(html.slice(at, at + 2))) return upTo(/>/, at + 2);
    return this.#startTag(at);
  }

  #cdata(at: number): number | null {
    const end = this.#html.indexOf("]]>", at);
    if (end < 0) return null;
    this.#data(this.#html.slice(at + "<![cdata[".length, end));
    return end + 3;
  }

  #startTag(at: number): number | null {
    const html = this.#html;
    const name = /^[^\t\n\r\f />\0]*/.exec(html.slice(at + 1))![0].toLowerCase();
    const end = endOfAttributes(html, at + 1 + name.length);
    if (end === null) return null;
    if (VOID.has(name) || html[end - 2] === "/") return end;
    this.#open.push(name);
    if (RAW.has(name)) this.#raw = name;
    return end;
  }

  #endTag(at: number): number | null {
    const html = this.#html;
    const close = html.indexOf(">", at + 1);
    if (close < 0) return null;
    const name = /^<\/\s*([a-z][^\t\n\r\f />\0]*)/i.exec(html.slice(at, close + 1))?.[1]?.toLowerCase();
    if (name === undefined) return close + 1;
    const opened = this.#open.lastIndexOf(name);
    if (opened >= 0) this.#open.length = opened;
    this.#raw = null;
    return close + 1;
  }

  #reference(final: boolean): boolean {
    const rest = this.#html.slice(this.#at);
    // The character after a reference ends it, and only a semicolon is part of it.
    const numeric = /^&#([0-9]+|x[0-9a-f]+)[^0-9a-f]/i.exec(rest);
    if (numeric) return this.#replace(numeric[0], characterOf(numeric[1]!));
    if (rest.startsWith("&#")) {
      if (rest.includes(";")) this.#take("&#");
      return false;
    }
    const named = /^&([a-z][-.a-z0-9]*)[^a-z0-9]/i.exec(rest);
    if (named) {
      const [whole, name] = named as unknown as [string, string];
      const decoded = decodeHTMLStrict(`&${name};`);
      return this.#replace(whole, decoded === `&${name};` ? `&${name}` : decoded);
    }
    if (/^&[a-z]/i.test(rest)) {
      if (final && rest.length === 2) this.#at++;
      return false;
    }
    if (rest.length === 1) return false;
    this.#take("&");
    return true;
  }

  #take(text: string): void {
    this.#data(text);
    this.#at += text.length;
  }

  #replace(reference: string, text: string): true {
    this.#data(text);
    this.#at += reference.endsWith(";") ? reference.length : reference.length - 1;
    return true;
  }
}

/** Where a start tag ends, past its ">"; null if the text ends first, or a quote is not closed. */
function endOfAttributes(html: string, at: number): number | null {
  const skip = (pattern: RegExp) => {
    at += pattern.exec(html.slice(at))![0].length;
  };
  for (;;) {
    skip(/^[\s/]*/);
    if (at >= html.length) return null;
    if (html[at] === ">") return at + 1;
    skip(/^[^\s/>][^\s/=>]*/);
    const equals = /^\s*=+\s*/.exec(html.slice(at));
    if (!equals) continue;
    at += equals[0].length;
    const value = /^(?:'[^']*'|"[^"]*"|(?!['"])[^>\s]*)/.exec(html.slice(at));
    if (!value) return null;
    at += value[0].length;
  }
}

/** What Windows-1252 has from 0x80 to 0x9f, which numbers of characters there mean. */
const WINDOWS_1252 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

export const windows1252 = (code: number): string => WINDOWS_1252[code - 0x80] ?? String.fromCharCode(code);

function characterOf(number: string): string {
  const code = /^x/i.test(number) ? Number.parseInt(number.slice(1), 16) : Number.parseInt(number, 10);
  if (code >= 0x80 && code <= 0x9f) return windows1252(code);
  const none = code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff);
  return none ? "\ufffd" : String.fromCodePoint(code);
}
