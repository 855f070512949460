/** The text of an answer in a simulation: its tokens are numbered words, so that a missing, repeated or misplaced one is seen. */
export function wordsOf(after: number, through: number): string {
  let text = "";
  for (let n = after + 1; n <= through; n++) text += `${n} `;
  return text;
}

/** How many words follow `after` in this text, if it goes on exactly there; null: something is missing, repeated or misplaced. */
export function wordsFrom(after: number, text: string): number | null {
  const words = text.split(" ");
  if (words.pop() !== "") return null;
  for (const [index, word] of words.entries()) if (word !== String(after + 1 + index)) return null;
  return words.length;
}
