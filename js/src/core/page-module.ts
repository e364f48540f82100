/** Modules that are loaded once per page by whoever needs them first. */

type Cache = Record<string, Promise<unknown> | undefined>;

/**
 * Page cache, else the server's static file, else `fromKernel` (VS Code, Colab).
 * Several copies of the widget's module live on one page (anywidget evaluates it
 * per model), so the cache is on `globalThis`, not in this module.
 */
export function pageModule<T>(key: string, url: string | null, fromKernel?: () => Promise<ArrayBuffer>): Promise<T> {
  const page = globalThis as unknown as Cache;
  const loading = (page[key] as Promise<T> | undefined) ?? firstOf<T>(key, url, fromKernel);
  page[key] = loading;
  // A failure is not cached: the next card, or a reconnect, may fare better.
  loading.catch(() => {
    if (page[key] === loading) page[key] = undefined;
  });
  return loading;
}

async function firstOf<T>(key: string, address: string | null, fromKernel?: () => Promise<ArrayBuffer>): Promise<T> {
  const sources: (() => Promise<T>)[] = [];
  if (address !== null) {
    const url = new URL(address, location.href).href;
    sources.push(() => importFrom<T>(url), async () => importBytes<T>(await download(url)));
    // anywidget evaluates the widget from a blob: url. What a blob imports carries no
    // Referer, and Jupyter refuses such a request (403); a fetch is sent by the page.
    if (fromKernel !== undefined) sources.reverse();
  }
  if (fromKernel !== undefined) sources.push(async () => importBytes<T>(await fromKernel()));
  let failure: unknown = new Error(`no source for ${key} on this page`);
  for (const source of sources) {
    try {
      return await source();
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function download(url: string): Promise<ArrayBuffer> {
  const response = await fetch(url, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.arrayBuffer();
}

async function importBytes<T>(bytes: ArrayBuffer): Promise<T> {
  const url = URL.createObjectURL(new Blob([bytes], { type: "text/javascript" }));
  try {
    return await importFrom<T>(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function importFrom<T>(url: string): Promise<T> {
  return (await import(/* webpackIgnore: true */ url)) as T;
}
