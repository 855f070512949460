/** Limits of a session that are not of the wire (I8); those that clients meet are in schema/core/wire/limits.ts. */
export const SESSION_SOCKETS_MAX = 64; // open sockets, drivers and observers together: the next is refused with rate_limited
export const SESSION_PAGE_EVENTS = 256; // events read from the log at a time, so that a replay is never all in memory: fewer where they are large (page.ts)
export const SESSION_UNACKED_BYTES_MAX = 8_388_608; // sent and not acknowledged on one socket: sending waits for an ack
export const SESSION_EVENT_BYTES_MAX = 1_048_576; // an event in the log (a row holds 2 MB): a longer one says so in its place
export const SESSION_MESSAGES_REMEMBERED_MAX = 10_000; // message ids known for repeats: the oldest are forgotten
export const SESSION_HISTORY_TURNS_MAX = 50; // earlier turns that a function is given: the oldest are left out
export const SESSION_HISTORY_CHARS_MAX = 65_536; // text of them, likewise
export const TURN_ATTEMPTS_MAX = 8; // starts of one turn after evictions and crashes: then it ends with `internal`
export const SESSION_FRAMES_WAITING_BYTES_MAX = 8_388_608; // frames of one socket that wait for an earlier one: beyond it the socket is closed with 1013
export const SESSION_FRAME_COST_BYTES = 256; // what a waiting frame takes beside its text
export const KEYS_WATCH_MS = 3_000; // while a turn runs and sockets are open, the alarm that looks at their keys
export const KEYS_IDLE_WATCH_MS = 900_000; // the same while nothing runs: only what the revoking door could not tell (key-sockets.ts) is left for it
export const TURN_WATCH_MS = 20_000; // the alarm that finds a turn whose object died; armed while a turn runs
