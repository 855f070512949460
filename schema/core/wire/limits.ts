/** Named limits of the wire (I8). What happens at each is said beside it. */
export const BODY_BYTES_MAX = 1_048_576; // HTTP body: 413 body_too_large
export const JSON_DEPTH_MAX = 256; // nesting of an HTTP body, at the edge and at the gateway: 400 invalid_request
export const LINK_FRAME_BYTES_MAX = 2_097_152; // link frame: the link closes with 1009
export const LINK_CALLS_MAX = 256; // calls in flight on one link: `refused` with rate_limited
export const LINK_BUFFER_FRAMES_MAX = 4_096; // frames kept of a call for resumption: the oldest go, `resume` then refuses
export const LINK_RESUME_WINDOW_MS = 60_000; // a detached call's output is kept so long
export const LINK_CREDIT_FRAMES = 1_024; // frames that may be unacknowledged on one call: the gateway then coalesces
export const SESSION_FRAME_BYTES_MAX = 262_144; // client frame on a session socket: 1009
export const SESSION_MESSAGE_CHARS_MAX = 131_072; // a user message: error event invalid_request
export const SESSION_UNACKED_EVENTS_MAX = 10_000; // beyond it the socket is closed with 4008 slow_reader; resume goes on
export const SESSION_LOG_EVENTS_MAX = 100_000; // beyond it the oldest go, and `welcome.truncated_before` says so
export const MESSAGES_MAX = 2_048; // chat messages in one call: 400
export const TOOLS_MAX = 128; // tools in one call: 400
export const STOP_MAX = 16; // stop strings: 400
export const N_MAX = 8; // choices: 400
export const MAX_TOKENS_MAX = 131_072; // 400
export const CODE_BYTES_MAX = 1_000_000; // a deployed function's code: 413
export const STEP_CHARS_MAX = 512; // a step's place in its program: beyond it the way to it is told by a hash (`~<hash>/…`)
export const STEPS_MAX = 1_000; // steps of a run: too_many_steps
/** @public Also read as text by sdk/guest/build. */
export const FANOUT_MAX = 1_000; // children of one step: too_many_steps
export const MEMORY_VALUE_BYTES_MAX = 65_536; // a value in `ctx.memory`: invalid_request
export const LOG_LINES_MAX = 10_000; // log lines of a run: the rest is dropped and counted; of a session: the oldest are
export const ACTIVE_WORKERS_PER_OBJECT_MAX = 10; // loaded isolates per Durable Object (platform limit, enforced by us)
export const PENDING_CONNECTIONS_MAX = 6; // outgoing connections awaiting headers (platform limit, enforced by us)

/** `emit`: the data, as JSON in UTF-8; beyond it `invalid_request`. */
export const EMIT_BYTES_MAX = 65_536;
