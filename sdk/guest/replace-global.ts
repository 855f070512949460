/** Changes a global where it is defined: an own property of `globalThis` alone would hide the platform's, which its prototype still has. */
export function replaceGlobal<N extends keyof typeof globalThis>(name: N, make: (real: (typeof globalThis)[N]) => unknown): void {
  const owner = ownerOf(name);
  if (!owner) return;
  Object.defineProperty(owner, name, { value: make(globalThis[name]), writable: true, enumerable: true, configurable: true });
}

export function removeGlobal(name: string): void {
  for (let owner = ownerOf(name); owner; owner = ownerOf(name)) if (!Reflect.deleteProperty(owner, name)) return;
}

function ownerOf(name: PropertyKey): object | null {
  let at: object | null = globalThis;
  while (at && !Object.hasOwn(at, name)) at = Object.getPrototypeOf(at) as object | null;
  return at;
}
