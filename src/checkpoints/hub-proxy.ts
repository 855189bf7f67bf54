/** Requests through the proxies set in the environment, which Node's own fetch ignores. */
import { ArgumentError } from "../errors.ts";

type Send = typeof fetch;

let made: { key: string; send: Send } | undefined;

/** fetch through the proxies of HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (upper or lower case), except for hosts in NO_PROXY. */
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
    // undici's own fetch, since Node's fetch may come from another undici version that does not work with this agent.
    made = { key, send: ((input, init) => send(input as string, { ...(init as object), dispatcher })) as Send };
  }
  return made.send;
}

function variable(name: string): string | undefined {
  return process.env[name] || process.env[name.toUpperCase()] || undefined;
}

/** A proxy's address may contain a password, so no message shows it. */
function checkProxy(address: string): void {
  const protocol = URL.canParse(address) ? new URL(address).protocol : "";
  if (protocol === "http:" || protocol === "https:") return;
  throw new ArgumentError(
    "A proxy in the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) is no http:// or https:// address; other kinds, such " +
      "as SOCKS, are not supported.",
  );
}
