/** The two platform modules that the isolate's entry imports; only what is used of them. */
declare module "cloudflare:workers" {
  export class WorkerEntrypoint {
    protected readonly ctx: { readonly props: unknown };
  }
}
declare module "node:async_hooks" {
  export class AsyncLocalStorage<T> {
    run<R>(store: T, callback: () => R): R;
    getStore(): T | undefined;
  }
}
/** The user's module. */
declare module "function.js" {
  const exported: unknown;
  export default exported;
}
