/** Server-sent events of a response body (WHATWG HTML, "Event stream interpretation"); `createParser` keeps to the spec. */
import { createParser, type EventSourceMessage } from "eventsource-parser";

export async function* events(answer: Response): AsyncGenerator<EventSourceMessage> {
  if (!answer.body) return;
  const ready: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => ready.push(event) });
  const decoder = new TextDecoder();
  for await (const chunk of answer.body) {
    parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
    yield* ready.splice(0);
  }
}
