/** The platform module that the isolate's entry imports; only what is used of it. */
declare module "node:async_hooks" {
  export class AsyncLocalStorage<T> {
    run<R>(store: T, callback: () => R): R;
    getStore(): T | undefined;
    static snapshot: () => <R>(work: (...args: unknown[]) => R, ...args: unknown[]) => R;
    static bind<F extends (...args: never[]) => unknown>(work: F): F;
  }
  export class AsyncResource {
    constructor(type: string);
    runInAsyncScope: <R>(work: (...args: unknown[]) => R, of?: unknown, ...args: unknown[]) => R;
    bind<F extends (...args: never[]) => unknown>(work: F): F;
    static bind<F extends (...args: never[]) => unknown>(work: F, type?: string): F;
  }
}
/** The user's module. */
declare module "function.js" {
  const exported: unknown;
  export default exported;
}
