/** Several observers as one: each is told of everything, in their order. */
import type { RunObserver } from "../checkers/checker.ts";

export function all(observers: readonly RunObserver[]): Required<RunObserver> {
  return {
    event: (event, effects, now) => observers.forEach((one) => one.event?.(event, effects, now)),
    record: (record) => observers.forEach((one) => one.record?.(record)),
    callEnded: (times) => observers.forEach((one) => one.callEnded?.(times)),
    clock: (now) => observers.forEach((one) => one.clock?.(now)),
    kvRead: (read) => observers.forEach((one) => one.kvRead?.(read)),
    session: (fact, now) => observers.forEach((one) => one.session?.(fact, now)),
    money: (transfer, word, now) => observers.forEach((one) => one.money?.(transfer, word, now)),
    journalled: (record, now) => observers.forEach((one) => one.journalled?.(record, now)),
    refolded: (refolded, now) => observers.forEach((one) => one.refolded?.(refolded, now)),
    provisioned: (gpus, nanoseconds) => observers.forEach((one) => one.provisioned?.(gpus, nanoseconds)),
    shipped: (rows, now) => observers.forEach((one) => one.shipped?.(rows, now)),
    gatewayStarted: (epoch, now) => observers.forEach((one) => one.gatewayStarted?.(epoch, now)),
    gatewayDied: (now) => observers.forEach((one) => one.gatewayDied?.(now)),
  };
}
