/**
 * How many prompt tokens will this call have? Asked before dispatch, when no tokenizer has spoken yet. Text is taken at four
 * characters a token, and the guess is corrected by what engines reported for earlier calls of the same model: an exponentially
 * weighted mean of actual ÷ raw estimate. State comes in as an argument and goes out as a value; nothing is remembered here.
 */
import type { ChatRequest, CompletionRequest } from "../../../schema/core/wire/chat.ts";

const CHARS_PER_TOKEN = 4;
/** What a chat template adds around each message: role, separators. */
const TOKENS_PER_MESSAGE = 4;
/** An image part, until an engine says otherwise (a mid-size tile count of current vision models). */
const TOKENS_PER_IMAGE = 576;
/** Each new sample counts for a sixteenth: one odd prompt cannot swing admission. */
const SAMPLE_WEIGHT = 1 / 16;
/** A report outside these bounds (a broken usage block) would poison every later estimate. */
const RATIO_MIN = 0.125;
const RATIO_MAX = 8;

export type Calibration = { readonly ratio: number; readonly samples: number };
export const UNCALIBRATED: Calibration = { ratio: 1, samples: 0 };

/** `exact` prompts (token ids) are counted, not guessed, and never corrected. */
export type RawEstimate = { readonly tokens: number; readonly exact: boolean };

export function rawEstimateOfChat(body: ChatRequest): RawEstimate {
  let chars = 0;
  let tokens = 0;
  for (const message of body.messages) {
    tokens += TOKENS_PER_MESSAGE;
    const content = message.content;
    if (typeof content === "string") chars += content.length;
    else if (content) {
      for (const part of content) {
        if (part.type === "text") chars += part.text.length;
        else tokens += TOKENS_PER_IMAGE;
      }
    }
    if (message.role === "assistant") {
      for (const call of message.tool_calls ?? []) chars += call.function.name.length + call.function.arguments.length;
    }
  }
  if (body.tools) chars += JSON.stringify(body.tools).length;
  return { tokens: tokens + Math.ceil(chars / CHARS_PER_TOKEN), exact: false };
}

export function rawEstimateOfCompletion(body: CompletionRequest): RawEstimate {
  const { prompt } = body;
  if (typeof prompt === "string") return { tokens: Math.ceil(prompt.length / CHARS_PER_TOKEN), exact: false };
  const [first] = prompt;
  if (typeof first === "string") return { tokens: Math.ceil(first.length / CHARS_PER_TOKEN), exact: false };
  return { tokens: prompt.length, exact: true };
}

export function estimateTokens(raw: RawEstimate, calibration: Calibration): number {
  return Math.max(1, raw.exact ? raw.tokens : Math.ceil(raw.tokens * calibration.ratio));
}

/** An engine has said how long the prompt really was. */
export function calibrate(calibration: Calibration, raw: RawEstimate, actual_tokens: number): Calibration {
  if (raw.exact || raw.tokens === 0 || actual_tokens === 0) return calibration;
  const seen = Math.min(RATIO_MAX, Math.max(RATIO_MIN, actual_tokens / raw.tokens));
  // The first sample is taken whole: a tokenizer of another language is off by a constant factor from the start.
  const weight = calibration.samples === 0 ? 1 : SAMPLE_WEIGHT;
  return { ratio: calibration.ratio + (seen - calibration.ratio) * weight, samples: calibration.samples + 1 };
}
