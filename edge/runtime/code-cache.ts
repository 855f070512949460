/**
 * Code that was read from the database, by version, for as long as this isolate lives: a version never changes. Text only, so that
 * every object of the isolate may use what another one read. Beyond the limit the oldest goes.
 */
export const CODE_CACHE_CHARS_MAX = 16_000_000;

export class CodeCache {
  readonly #chars_max: number;
  readonly #codes = new Map<string, string>();
  #chars = 0;

  constructor(chars_max: number) {
    this.#chars_max = chars_max;
  }

  get(of: VersionKey): string | undefined {
    return this.#codes.get(keyOf(of));
  }

  put(of: VersionKey, code: string): void {
    const key = keyOf(of);
    this.#drop(key);
    this.#codes.set(key, code);
    this.#chars += code.length;
    for (const [oldest] of this.#codes) {
      if (this.#chars <= this.#chars_max) break;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    this.#chars -= this.#codes.get(key)?.length ?? 0;
    this.#codes.delete(key);
  }
}

/** A version's id is its tenant's alone; both are the key all the same (I10). */
type VersionKey = { readonly tenant: string; readonly version: string };
const keyOf = (of: VersionKey): string => `${of.tenant}/${of.version}`;

export const code_cache = new CodeCache(CODE_CACHE_CHARS_MAX);
