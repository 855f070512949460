/** Every duration and bound of the edge's end of the link (I8), resolved once. What happens at each is said beside it. */
export type LinkTiming = {
  /** A link on which nothing is in flight is closed after this: an outgoing socket keeps its object from hibernating. */
  readonly linger_ms: number;
  /** From dialling to `welcome`; then the attempt has failed. */
  readonly connect_ms_max: number;
  /** Between pings while calls are in flight. */
  readonly ping_ms: number;
  /** Nothing received for this long while calls are in flight: the socket is half-open and is dropped. */
  readonly silence_ms_max: number;
  /** Reconnecting: the first delay, doubled each time up to the second. */
  readonly backoff_ms_min: number;
  readonly backoff_ms_max: number;
  /** A gateway that stays away this long: calls end with `gateway_unavailable`, or `gateway_lost` once tokens were seen. */
  readonly away_ms_max: number;
  /** Beyond its deadline a call waits this long for the gateway's own word, then ends here with `deadline_exceeded`. */
  readonly deadline_grace_ms: number;
  /** After a cancel was sent: the wait for the gateway's word, then the call ends here with `cancelled`. */
  readonly cancel_grace_ms: number;
  /** Frames of a call are handed over at most once in this time, all together, so that their writes coalesce. */
  readonly tick_ms: number;
};

export const LINK_TIMING: LinkTiming = {
  linger_ms: 30_000,
  connect_ms_max: 10_000,
  ping_ms: 5_000,
  silence_ms_max: 15_000,
  backoff_ms_min: 50,
  backoff_ms_max: 2_000,
  away_ms_max: 30_000,
  deadline_grace_ms: 2_000,
  cancel_grace_ms: 5_000,
  tick_ms: 20,
};

/** Full jitter between half and all of the doubled delay. `random` is in [0, 1): chance is an argument. */
export function backoffMs(timing: LinkTiming, failures: number, random: () => number): number {
  const ceiling = Math.min(timing.backoff_ms_max, timing.backoff_ms_min * 2 ** Math.min(failures, 16));
  return Math.round(ceiling * (0.5 + random() / 2));
}
