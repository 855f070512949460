/** How deep JSON text is nested, without parsing it: a parser, and whatever walks its result, recurses as deep as the text does. */

/** Beyond it a request is refused as malformed, a guest's output as not serializable. */
export const JSON_DEPTH_MAX = 256;

export function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let in_string = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (in_string) {
      if (char === 0x5c) i += 1;
      else if (char === 0x22) in_string = false;
    } else if (char === 0x22) in_string = true;
    else if (char === 0x7b || char === 0x5b) deepest = Math.max(deepest, ++depth);
    else if (char === 0x7d || char === 0x5d) depth -= 1;
  }
  return deepest;
}
