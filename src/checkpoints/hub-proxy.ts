/** Requests through the proxies that the environment names, which Node's own fetch does not look at. */
import { ArgumentError } from "../errors.ts";

type Send = typeof fetch;

let made: { key: string; send: Send } | undefined;

/** fetch, through a proxy where HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (or their lower-case names) say so and NO_PROXY does not. */
export async function proxiedFetch(): Promise<Send> {
  const all = variable("all_proxy");
  const httpProxy = variable("http_proxy") ?? all;
  const httpsProxy = variable("https_proxy") ?? all;
  if (httpProxy === undefined && httpsProxy === undefined) return fetch;
  const noProxy = variable("no_proxy") ?? "";
  const key = JSON.stringify([httpProxy, httpsProxy, noProxy]);
  if (made?.key !== key) {
    for (const proxy of [httpProxy, httpsProxy]) if (proxy !== undefined) checkProxy(proxy);
    const { EnvHttpProxyAgent, fetch: send } = await import("undici");
    const dispatcher = new EnvHttpProxyAgent({ httpProxy: httpProxy ?? "", httpsProxy: httpsProxy ?? "", noProxy });
    // undici's own fetch: Node's may be of another version, whose requests this agent does not know.
    made = { key, send: ((input, init) => send(input as string, { ...(init as object), dispatcher })) as Send };
  }
  return made.send;
}

function variable(name: string): string | undefined {
  return process.env[name] || process.env[name.toUpperCase()] || undefined;
}

/** A proxy's address may hold a password, so no message repeats it. */
function checkProxy(address: string): void {
  const protocol = URL.canParse(address) ? new URL(address).protocol : "";
  if (protocol === "http:" || protocol === "https:") return;
  throw new ArgumentError(
    "A proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) is no http:// or https:// address; other kinds, such " +
      "as SOCKS, are not supported.",
  );
}
