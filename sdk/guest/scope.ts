/**
 * Where in the run a capability is used. A step's path is its name, or its kind and number, in its parent's order (D11).
 * The current scope follows the asynchronous flow, so that `ctx` used inside `ctx.step` counts there, and two runs that
 * share this isolate never see each other's.
 */
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { MillraceError } from "./error.ts";
import type { Session } from "./session.ts";

export type Scope = { readonly session: Session; readonly path: string; readonly counters: Map<string, number> };

const current = new AsyncLocalStorage<Scope>();

export const newScope = (session: Session, path: string): Scope => ({ session, path, counters: new Map() });

export const within = <T>(scope: Scope, work: () => T): T => current.run(scope, work);

export const currentScope = (): Scope | undefined => current.getStore();

/** The session whose code is running now, if any is. */
export const currentSession = (): Session | undefined => current.getStore()?.session;

/** The scope to count in: the innermost of the same run; a `ctx` that another run left in a global is refused. */
export function scopeFor(own: Scope): Scope {
  const inner = current.getStore();
  if (inner === undefined) return own;
  if (inner.session !== own.session) throw new MillraceError("capability_denied", "This ctx belongs to another run.");
  return inner.path.startsWith(own.path) ? inner : own;
}

/** `research` (named), `research~2` (the name again), `ai#1` (numbered). */
export function stepPath(scope: Scope, kind: string, name?: string): string {
  if (name !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._ -]{0,63}$/.test(name)) {
    throw new MillraceError("invalid_request", "A step's name is 1 to 64 letters, digits, spaces, dots, dashes.", "name");
  }
  const key = name ?? kind;
  const count = (scope.counters.get(key) ?? 0) + 1;
  scope.counters.set(key, count);
  if (name === undefined) return `${scope.path}${kind}#${count}`;
  return count === 1 ? `${scope.path}${name}` : `${scope.path}${name}~${count}`;
}

/**
 * A context that the module captured (`snapshot`, `bind`, an AsyncResource) is nobody's: in it a `ctx` that a neighbour left in a
 * global would pass for the caller's own. All of it is restored but in whose name the code runs: that stays the run that enters. What
 * a run captured the platform refuses to any other.
 */
export function keepScopeInCapturedContexts(): void {
  const capture = AsyncLocalStorage.snapshot;
  AsyncLocalStorage.snapshot = () => {
    const enter = capture.call(AsyncLocalStorage);
    return (work, ...args) => asCaller(enter, () => work(...args));
  };
  const { runInAsyncScope } = AsyncResource.prototype;
  AsyncResource.prototype.runInAsyncScope = function (this: AsyncResource, work, of, ...args) {
    return asCaller(
      (inside) => runInAsyncScope.call(this, inside),
      () => work.apply(of, args),
    );
  };
  AsyncResource.prototype.bind = function (work) {
    return entered((inside) => this.runInAsyncScope(inside), work);
  };
  const bind: typeof AsyncLocalStorage.bind = (work) => entered(AsyncLocalStorage.snapshot(), work);
  AsyncLocalStorage.bind = bind;
  AsyncResource.bind = bind;
}

type Enter = (inside: () => unknown) => unknown;

function asCaller<T>(enter: Enter, work: () => T): T {
  const caller = current.getStore();
  const inside = () => (caller === undefined || current.getStore()?.session === caller.session ? work() : current.run(caller, work));
  return enter(inside) as T;
}

function entered<F extends (...args: never[]) => unknown>(enter: Enter, work: F): F {
  const inside = function (this: unknown, ...args: never[]) {
    return enter(() => work.apply(this, args));
  };
  return inside as F;
}
