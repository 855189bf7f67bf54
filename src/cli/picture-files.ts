/** Where `generate` writes its images: to new files, with a contact sheet if there are several, or to stdout. */
import { ArgumentError } from "../errors.ts";
import { checkFile, namesAfter, numberedNames, withSuffix, writeWhole } from "../media/output-node.ts";
import { contactSheet, type Picture } from "../media/picture.ts";
import { checkEncoder, encodePicture, fitsFormat, type PictureFormat, pictureFormat } from "../media/picture-node.ts";
import { about } from "./options.ts";
import { note, writeTo } from "./terminal.ts";

/** The most images on a sheet: nobody looks at more, and all of them are in memory until the last one is made. */
const MOST_ON_SHEET = 256;
const MOST_SHEET_PIXELS = 100_000_000;

export type Texts = Readonly<Record<string, string>>;

export class PictureFiles {
  /** In the order in which they were written. */
  readonly files: string[] = [];
  readonly toStdout: boolean;
  readonly #out: string;
  readonly count: number;
  readonly #format: PictureFormat;
  readonly #overwrite: boolean;
  readonly #next: () => string;
  #forSheet: Picture[] | null;

  private constructor(out: string, format: PictureFormat, count: number, overwrite: boolean, sheet: boolean) {
    this.toStdout = out === "-";
    this.#out = out;
    this.count = count;
    this.#format = format;
    this.#overwrite = overwrite;
    this.#next = count === 1 ? namesAfter(out) : numberedNames(out, count);
    this.#forSheet = sheet && count > 1 ? [] : null;
  }

  /** Throws ArgumentError if `count` images cannot be written to `out`, before any of them is made. */
  static async open(out: string, count: number, { force = false, sheet = true }): Promise<PictureFiles> {
    if (out === "-") {
      if (count > 1) throw new ArgumentError(`--out - is for one picture; these are ${count}.`);
      if (process.stdout.isTTY) {
        throw new ArgumentError("--out -: stdout is a terminal. Send it to a file or another program, or name a file.");
      }
      return new PictureFiles(out, "png", count, force, sheet);
    }
    if (out === "") throw new ArgumentError("--out has no name.");
    return about("--out", async () => {
      const format = pictureFormat(out);
      await checkFile(count === 1 ? out : withSuffix(out, "sheet"));
      await checkEncoder(format);
      return new PictureFiles(out, format, count, force, sheet);
    });
  }

  /** Writes the next image and returns its file; null if it went to stdout. */
  async add(picture: Picture, texts: Texts): Promise<string | null> {
    const bytes = await encodePicture(picture, this.#format, texts);
    this.#keep(picture);
    if (this.toStdout) {
      await writeTo(process.stdout, bytes);
      return null;
    }
    const file = await writeWhole(this.#out, bytes, { overwrite: this.#overwrite, next: this.#next });
    this.files.push(file);
    return file;
  }

  /** Writes the contact sheet of all images, if one is wanted, and returns its file. */
  async finish(texts: Texts): Promise<string | null> {
    const pictures = this.#forSheet;
    if (!pictures || pictures.length < 2) return null;
    const sheet = contactSheet(pictures);
    if (!fitsFormat(this.#format, sheet)) {
      note(
        `Note: there is no contact sheet, since ${sheet.width}x${sheet.height} pixels are more than a .${this.#format} has.`,
      );
      return null;
    }
    const path = withSuffix(this.#out, "sheet");
    return writeWhole(path, await encodePicture(sheet, this.#format, texts), { overwrite: this.#overwrite });
  }

  /** For a message about a run that was interrupted. */
  get kept(): string {
    const { length } = this.files;
    if (length === 0) return "nothing was written.";
    return `${length} of ${this.count} pictures ${length === 1 ? "was" : "were"} written: ${this.files.join(", ")}.`;
  }

  #keep(picture: Picture): void {
    if (!this.#forSheet) return;
    const pixels = picture.width * picture.height * this.count;
    if (this.count <= MOST_ON_SHEET && pixels <= MOST_SHEET_PIXELS) {
      this.#forSheet.push(picture);
      return;
    }
    this.#forSheet = null;
    note(
      `Note: there will be no contact sheet; it has at most ${MOST_ON_SHEET} pictures and ${MOST_SHEET_PIXELS} pixels.`,
    );
  }
}
