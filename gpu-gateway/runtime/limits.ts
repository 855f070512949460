/** Named limits of the runtime (I8). What happens at each is said beside it. */
export const CALLS_IN_FLIGHT_MAX = 16_384; // accepted calls not yet ended: `queue_full`
export const CALLS_RETAINED_MAX = 4_096; // ended calls kept for resumption: the oldest go first
export const FRAMES_RETAINED_MAX = 524_288; // output frames kept of all ended calls together: the oldest calls go first
export const CALL_UNREAD_BYTES_MAX = 4_194_304; // output nobody has taken yet, per call: the call is cancelled, `slow_reader`
export const PROGRESS_TICK_MS = 50; // how often the scheduler hears of tokens that arrived in between
export const NOTE_PERIOD_MS = 500; // how often the journal is told what calls under way were sent: what a crash can leave unbooked
export const SAMPLE_PERIOD_MS = 1_000; // how often an instance's own load figures are read
export const HEALTH_FAILURES_MAX = 3; // samples in a row that fail: the instance is lost and its group is stopped
export const PROBE_ATTEMPTS_MAX = 50; // probes of an instance that its provider calls ready: then its group is stopped
export const PROBE_PERIOD_MS = 200; // between two probes of a loading instance
export const STOP_DRAIN_MS_MAX = 30_000; // a group that stops after draining: what still runs then is cancelled
export const LEASE_SKEW_MS = 250; // subtracted from a lease's end: clocks and timers are not exact
export const LEASE_RENEWALS_PER_TERM = 4; // so that one lost renewal does not lose the cell
export const GROUPS_ENDED_EARLY_MAX = 256; // groups that ended before their launch was answered, remembered: the oldest go
export const PROVISIONS_KNOWN_MAX = 1_024; // provisions recognised when they are stated again: closed ones go first
export const SALTS_KEPT_MAX = 10_000; // tenants whose cache salt is kept: made again for the rest
export const EMPTY_DELTAS_WITHHELD_MAX = 64; // pieces without a token before the first token: then they are sent, and count as the beginning
