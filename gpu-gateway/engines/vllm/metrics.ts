/** The few figures of Prometheus text that a gateway needs. */
export type Sample = { readonly labels: Readonly<Record<string, string>>; readonly value: number };

/** All samples of one metric; one per data-parallel engine, usually one. */
export function samplesOf(text: string, name: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith(name)) continue;
    const match = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    const value = Number(match?.[3]);
    if (match?.[1] !== name || Number.isNaN(value)) continue;
    const labels: Record<string, string> = {};
    for (const [, key = "", quoted = ""] of (match[2] ?? "").matchAll(/([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g))
      labels[key] = quoted;
    samples.push({ labels, value });
  }
  return samples;
}

export function sumOf(text: string, name: string): number {
  return samplesOf(text, name).reduce((sum, sample) => sum + sample.value, 0);
}

export function meanOf(text: string, name: string): number {
  const samples = samplesOf(text, name);
  return samples.length === 0 ? 0 : sumOf(text, name) / samples.length;
}
