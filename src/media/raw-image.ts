/** Images with methods to draw, show, send and save them. */
import { encodeBlob, savePicture } from "#picture-file";
import { StateError } from "../errors.ts";
import { encodePng, type Picture } from "./picture.ts";
import type { PictureType, SavePictureOptions } from "./picture-file.ts";

/** What `toImageData` gives where there is no ImageData: Node. */
export interface PlainImageData {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue, alpha of each pixel. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
  readonly colorSpace: "srgb";
}

/** A picture of 8 bits a channel, rows from the top; `data` is red, green, blue of each pixel. */
export class RawImage implements Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;

  constructor({ width, height, data }: Picture) {
    this.width = width;
    this.height = height;
    this.data = data;
  }

  /** A PNG file, with texts in its tEXt chunks. */
  toPng(text: Readonly<Record<string, string>> = {}): Uint8Array<ArrayBuffer> {
    return encodePng(this, text);
  }

  /** With an opaque alpha channel, as a canvas takes it; a plain object of the same shape where there is no ImageData. */
  toImageData(): ImageData | PlainImageData {
    const { width, height } = this;
    const data = new Uint8ClampedArray(4 * width * height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) data[4 * i + c] = this.data[3 * i + c]!;
      data[4 * i + 3] = 255;
    }
    if (typeof ImageData === "undefined") return { width, height, data, colorSpace: "srgb" };
    return new ImageData(data, width, height);
  }

  /** A picture file: PNG unless another type is given. `quality` from 0 to 1 is for JPEG and WebP in a browser. */
  async toBlob(type: PictureType = "image/png", quality = 0.95): Promise<Blob> {
    if (type === "image/png") return new Blob([this.toPng()], { type });
    return encodeBlob(this, type, quality);
  }

  /** Draws it on a canvas, which takes its size: this one, or a new one. Throws StateError where there are none (Node). */
  toCanvas(): OffscreenCanvas;
  toCanvas<Canvas extends HTMLCanvasElement | OffscreenCanvas>(canvas: Canvas): Canvas;
  toCanvas(canvas?: HTMLCanvasElement | OffscreenCanvas): HTMLCanvasElement | OffscreenCanvas {
    if (!canvas && typeof OffscreenCanvas === "undefined") {
      throw new StateError("There are no canvases here. toPng(), toBlob() and save(path) need none.");
    }
    const target = canvas ?? new OffscreenCanvas(this.width, this.height);
    target.width = this.width;
    target.height = this.height;
    const context = target.getContext("2d") as CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D | null;
    if (!context)
      throw new StateError("The canvas has a context of another kind already; give one without, or a 2d one.");
    context.putImageData(this.toImageData() as ImageData, 0, 0);
    return target;
  }

  /**
   * Writes it to a file, whose ending says how: .png, .jpg, .webp. Returns the file's name. Throws ArgumentError for a name that
   * cannot be, and StateError in a browser, which has no files.
   */
  save(path: string, options: SavePictureOptions = {}): Promise<string> {
    return savePicture(this, path, options);
  }
}
