/** A prompt as PixArt's pipelines have it: Python's `caption.lower().strip()`, which leaves a byte-order mark where it is. */
export function captionText(prompt: string): string {
  const text = prompt.toLowerCase();
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text[start]!)) start++;
  while (end > start && isSpace(text[end - 1]!)) end--;
  return text.slice(start, end);
}

/** Python's str.isspace: Unicode's spaces and the four separators of ASCII. */
const isSpace = (char: string): boolean => /\p{White_Space}/u.test(char) || (char >= "\x1c" && char <= "\x1f");
