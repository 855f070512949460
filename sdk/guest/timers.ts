/** Timers are their run's: when it ends, those that are pending are cleared, and none is set from then on. */
import { replaceGlobal } from "./replace-global.ts";
import { currentSession } from "./scope.ts";

type Work = (...args: unknown[]) => void;
type SetTimer = (work: Work, delay_ms?: number, ...args: unknown[]) => number;
type Wait = (delay_ms: number, options?: { readonly signal?: AbortSignal }) => Promise<void>;

export function endTimersWithTheirRun(): void {
  replaceGlobal("setTimeout", (real) => ofRun(real as unknown as SetTimer, "once"));
  replaceGlobal("setInterval", (real) => ofRun(real as unknown as SetTimer, "again"));
  for (const name of ["clearTimeout", "clearInterval"] as const) {
    replaceGlobal(name, (real) => (timer: number) => {
      currentSession()?.forget(timer);
      real(timer);
    });
  }
  // The platform's own tells its listeners outside of the run that asked.
  Object.defineProperty(AbortSignal, "timeout", { value: abortAfter, writable: true, configurable: true });
  const { scheduler } = globalThis as unknown as { scheduler: object };
  Object.defineProperty(Object.getPrototypeOf(scheduler), "wait", { value: wait, writable: true, configurable: true });
}

function ofRun(real: SetTimer, times: "once" | "again"): SetTimer {
  return (work, delay_ms, ...args) => {
    const session = currentSession();
    if (!session || typeof work !== "function") return real(work, delay_ms, ...args);
    if (session.over) return 0;
    const timer = real(() => {
      if (times === "once") session.forget(timer);
      if (!session.over) work(...args);
    }, delay_ms);
    session.keep(timer);
    return timer;
  };
}

function abortAfter(delay_ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new DOMException("The operation was aborted due to timeout", "TimeoutError")), delay_ms);
  return controller.signal;
}

const wait: Wait = (delay_ms, options) =>
  new Promise((resolve, reject) => {
    const signal = options?.signal;
    const timer = setTimeout(resolve, delay_ms);
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
