/**
 * Which regular expressions of a tokenizer.json are run. A backtracking engine needs years for some of them, `(a+)+$` for one, and a
 * file can hold any. What CLIP's, T5's and most byte-level tokenizers have is accepted: branches in which at most the last thing
 * repeats without a limit, so that nothing after it can fail and send the engine back.
 */
import { quote } from "../checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";

const maxLength = 500;
/** Repeats of one thing, where they have a limit. */
const maxRepeats = 64;
/** Ways to match one branch, as the product of what its parts leave open. */
const maxWays = 64;

/** A branch, or several: in how many ways it may be matched, and whether it ends in something that repeats without a limit. */
interface Shape {
  ways: number;
  openEnded: boolean;
}

/** GPT-2's: spaces, but for the last of them. It goes back by one at most, because what a \s may not be followed by is no \s. */
const trailingSpaces = "\\s+(?!\\S)";

/**
 * What running it costs at most for each character of a text, in steps. Throws CheckpointError for one that may take more than linear
 * time, or that is not understood.
 */
export function regexCost(source: string, name: string): number {
  if (source.length > maxLength) {
    throw new CheckpointError(
      `${name}: has a regular expression of ${source.length} characters; at most ${maxLength} are read.`,
    );
  }
  const reader = new RegexReader(source, (why) => {
    throw new CheckpointError(
      `${name}: the regular expression ${quote(source)} ${why}. Only expressions that take linear time are run: groups do not ` +
        "repeat, and what repeats without a limit ends its branch.",
    );
  });
  return reader.read().ways * source.length;
}

class RegexReader {
  readonly #source: string;
  readonly #refuse: (why: string) => never;
  #at = 0;

  constructor(source: string, refuse: (why: string) => never) {
    this.#source = source;
    this.#refuse = refuse;
  }

  read(): Shape {
    const shape = this.#branches(0);
    if (this.#at < this.#source.length) this.#refuse("closes a group that is not open");
    return shape;
  }

  #branches(depth: number): Shape {
    if (depth > 8) this.#refuse("nests groups more than 8 deep");
    const shape = this.#branch(depth);
    while (this.#source[this.#at] === "|") {
      this.#at++;
      const { ways, openEnded } = this.#branch(depth);
      shape.ways += ways;
      shape.openEnded ||= openEnded;
    }
    return shape;
  }

  #branch(depth: number): Shape {
    const shape = { ways: 1, openEnded: false };
    while (this.#at < this.#source.length && !"|)".includes(this.#source[this.#at]!)) {
      if (shape.openEnded) this.#refuse("goes on after something that repeats without a limit");
      const { ways, openEnded } = this.#item(depth);
      shape.ways *= ways;
      shape.openEnded = openEnded;
      if (shape.ways > maxWays) this.#refuse(`can match in more than ${maxWays} ways`);
    }
    return shape;
  }

  #item(depth: number): Shape {
    if (this.#source.startsWith(trailingSpaces, this.#at)) {
      this.#at += trailingSpaces.length;
      return { ways: 2, openEnded: true };
    }
    const group = this.#source[this.#at] === "(" ? this.#group(depth) : undefined;
    if (!group) this.#character();
    const [least, most] = this.#repeats();
    if (group && most > 1) this.#refuse("repeats a group");
    if (group?.openEnded && least !== most) this.#refuse("has something that repeats without a limit in a group");
    if (most === Number.POSITIVE_INFINITY) return { ways: 1, openEnded: true };
    if (most > maxRepeats || least > most) this.#refuse(`repeats something ${most} times; ${maxRepeats} is the limit`);
    return { ways: (group?.ways ?? 1) + most - least, openEnded: group?.openEnded ?? false };
  }

  #group(depth: number): Shape {
    const start = /^\((?:\?(?::|i:|=|!))?(?!\?)/.exec(this.#source.slice(this.#at))?.[0];
    if (start === undefined) this.#refuse("has a kind of group that is not supported");
    this.#at += start.length;
    const shape = this.#branches(depth + 1);
    if (this.#source[this.#at] !== ")") this.#refuse("has a group that is not closed");
    this.#at++;
    // Looking ahead without a limit, and then going on, would look at the rest of the text at every character.
    if (shape.openEnded && /[=!]$/.test(start)) this.#refuse("looks ahead without a limit");
    return shape;
  }

  /** One character: a class, an escape or itself. */
  #character(): void {
    const rest = this.#source.slice(this.#at);
    if (/^[*+?]/.test(rest)) this.#refuse("repeats nothing");
    if (/^\\[1-9kgRXKQE]/.test(rest)) this.#refuse("refers back to a group, or has an escape that is not supported");
    const found =
      /^\[\^?\]?(?:\\[pPxu]\{[^}]*\}|\\[\s\S]|[^\\\][&])*\]/.exec(rest) ??
      /^\\[pPxu]\{[^}]*\}/.exec(rest) ??
      /^(?:\\x[\dA-Fa-f]{2}|\\u[\dA-Fa-f]{4}|\\[\s\S])/.exec(rest) ??
      /^[^\\[]/u.exec(rest);
    if (!found) this.#refuse("has a class of characters that is not supported, or is not complete");
    this.#at += found[0].length;
  }

  /** How often the thing before may be there. */
  #repeats(): [least: number, most: number] {
    const found = /^(?:[*+?]|\{(\d*)(,?)(\d*)\})/.exec(this.#source.slice(this.#at));
    if (!found || found[0] === "{}" || found[0] === "{,}") return [1, 1];
    this.#at += found[0].length;
    if (/^[*+?]/.test(this.#source.slice(this.#at))) this.#refuse("is lazy or possessive");
    const [text, least, comma, most] = found;
    if (text === "?") return [0, 1];
    if (text === "*" || text === "+") return [0, Number.POSITIVE_INFINITY];
    const from = Number(least);
    return [from, comma ? (most ? Number(most) : Number.POSITIVE_INFINITY) : from];
  }
}
