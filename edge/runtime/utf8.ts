/** Text is stored and sent as UTF-8, where a character takes up to three bytes of its two: limits in bytes are measured so. */
const encoder = new TextEncoder();

export const utf8Bytes = (text: string): number => encoder.encode(text).length;

/** Without encoding what is far from the limit on either side. */
export const utf8FitsIn = (text: string, bytes: number): boolean =>
  text.length <= bytes && (text.length * 3 <= bytes || utf8Bytes(text) <= bytes);
