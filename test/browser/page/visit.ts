/** What the test of the browser's cache calls: a visit of a page that opens a model and makes a picture. */
import {
  type CachedFile,
  cachedFiles,
  clearCachedFiles,
  type DownloadProgress,
  TextToImagePipeline,
} from "../../../src/web.ts";

export interface Visit {
  progress: DownloadProgress[];
  cached: (Omit<CachedFile, "fetched"> & { fetched: number })[];
  pixels: number[];
}

export const visits = {
  async open(model: string, worker: boolean): Promise<Visit> {
    const progress: DownloadProgress[] = [];
    const onDownload = (report: DownloadProgress) => void progress.push(report);
    const options = { provider: "wasm" as const, onDownload };
    const pipe = await (worker
      ? TextToImagePipeline.fromPretrained(model, { ...options, worker })
      : TextToImagePipeline.fromPretrained(model, options));
    const { images } = await pipe("a red cat", { steps: 1, seed: 1 });
    await pipe.release();
    const cached = (await cachedFiles()).map((file) => ({ ...file, fetched: file.fetched.getTime() }));
    return { progress, cached, pixels: [...images[0]!.data] };
  },
  clear: clearCachedFiles,
  /** Another content under the same length and the same headers: a damaged disk. */
  async damage(url: string): Promise<void> {
    const cache = await caches.open("halfstep");
    const kept = (await cache.match(url))!;
    const bytes = new Uint8Array(await kept.clone().arrayBuffer());
    bytes[bytes.length - 1]! ^= 1;
    await cache.put(url, new Response(bytes, { headers: kept.headers }));
  },
};

declare global {
  interface Window {
    visits: typeof visits;
  }
}
