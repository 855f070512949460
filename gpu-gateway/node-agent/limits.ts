/** Named limits of the node agent (I8). What happens at each is said beside it. */
export const BODY_BYTES_MAX = 65_536; // a command's body: 413 body_too_large
export const CONNECTIONS_MAX = 64; // further connections are dropped by the server
export const POLLS_MAX = 16; // event polls that wait at once: one more is answered at once, with nothing
export const POLL_WAIT_MS_MAX = 25_000; // how long a poll may ask to be held; longer is cut to this
export const EVENTS_KEPT_MAX = 1_024; // the oldest go; a reader that is further behind is told to list again
export const LEASE_MS_MIN = 100;
export const LEASE_MS_MAX = 600_000; // 400 invalid_request beyond
export const GPUS_MAX = 64; // of a node: refused at start
export const CELLS_REMEMBERED_MAX = 64; // cells whose epoch is kept; a further cell is refused
export const PROVISIONS_REPORTED_MAX = 64; // the newest are named in answers; all are in the file
export const LOG_BYTES_MAX = 4_194_304; // of one group: the older half is overwritten
export const LOG_GROUPS_MAX = 64; // groups whose log is kept: the oldest go
export const PORT_TRIES_MAX = 16; // free ports asked for until one is not in use by another group: then refused
export const READY_LOOK_MS = 50; // pause between two looks at a loading engine
export const READY_ANSWER_MS = 2_000; // a look that takes longer counts as not ready
export const STRAGGLERS_MS = 1_000; // after SIGKILL, how long to wait for an engine's own children to be gone
export const DRAIN_MS = 1_000; // on exit, how long answers under way may take
