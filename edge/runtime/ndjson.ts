/** JSON values as lines of a byte stream, which crosses from object to object with backpressure; read by sdk/guest/ndjson.ts. */
export function toNdjson<T>(items: AsyncGenerator<T>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const { done, value } = await items.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
    },
    async cancel() {
      await items.return(undefined);
    },
  });
}
