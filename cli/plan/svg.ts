/**
 * Plots as inline SVG: no script, no outside resource; colours are the page's variables, so that light and dark need one drawing.
 * Each has a title and a description for those who do not see it.
 */
export type Series = { readonly name: string; readonly colour: 1 | 2 | 3; readonly points: readonly (readonly [x: number, y: number])[] };
export type Axis = { readonly label: string; readonly max: number; readonly min?: number; readonly tick: (value: number) => string };
export type Mark = { readonly axis: "x" | "y"; readonly at: number; readonly label: string };

const WIDTH = 440;
const HEIGHT = 256;
const LEFT = 48;
const RIGHT = 12;
const TOP = 26;
const BOTTOM = 42;

export const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c] ?? c);

export type LinePlot = {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  readonly marks?: readonly Mark[];
  readonly area?: boolean;
};

export function linePlot(plot: LinePlot): string {
  const place = scales(plot.x, plot.y);
  const paths = plot.series.map(({ colour, points }) => {
    const line = points.map(([x, y], i) => `${i === 0 ? "M" : "L"}${n(place.x(x))} ${n(place.y(y))}`).join("");
    const [first, last] = [points[0], points.at(-1)];
    const floor = n(place.y(plot.y.min ?? 0));
    const area =
      plot.area && first !== undefined && last !== undefined
        ? `<path class="area s${colour}" d="${line}L${n(place.x(last[0]))} ${floor}L${n(place.x(first[0]))} ${floor}Z"/>`
        : "";
    return `${area}<path class="line s${colour}" d="${line}"/>`;
  });
  return framed(plot, `${frame(plot.x, plot.y, place)}${paths.join("")}${(plot.marks ?? []).map((mark) => markOf(mark, place)).join("")}`);
}

export type Point = { readonly x: number; readonly y: number; readonly met: boolean; readonly chosen: boolean; readonly label: string };
export type PointPlot = Omit<LinePlot, "series"> & { readonly points: readonly Point[] };

/** Filled: met. Each says what it is when pointed at. */
export function pointPlot(plot: PointPlot): string {
  const place = scales(plot.x, plot.y);
  const points = plot.points.map(
    ({ x, y, met, chosen, label }) =>
      `<circle class="${met ? "dot" : "ring"} s${chosen ? 1 : 3}" cx="${n(place.x(x))}" cy="${n(place.y(y))}" r="${chosen ? 5 : 4}"><title>${escaped(label)}</title></circle>`,
  );
  return framed(plot, `${frame(plot.x, plot.y, place)}${points.join("")}${(plot.marks ?? []).map((mark) => markOf(mark, place)).join("")}`);
}

export type Bar = { readonly name: string; readonly note: string; readonly share: number; readonly least: number; readonly most: number };

/** Shares of 1, one bar each, with the least and the most of what it is the mean of. */
export function barPlot(plot: {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly bars: readonly Bar[];
}): string {
  const row = 46;
  const width = WIDTH - RIGHT - 8;
  const height = plot.bars.length * row + 24;
  const x = (share: number): number => 8 + share * (width - 8);
  const bars = plot.bars.map(({ name, note, share, least, most }, i) => {
    const y = i * row + 4;
    const whisker =
      most - least > 0.001
        ? `<path class="whisker" d="M${n(x(least))} ${y + 27}H${n(x(most))}M${n(x(least))} ${y + 23}v8M${n(x(most))} ${y + 23}v8"/>`
        : "";
    return (
      `<text class="name" x="8" y="${y + 12}">${escaped(name)}</text><text class="tick" x="${width}" y="${y + 12}" text-anchor="end">${escaped(note)}</text>` +
      `<rect class="track" x="8" y="${y + 18}" width="${width - 8}" height="18" rx="4"/>` +
      `<rect class="bar s1" x="8" y="${y + 18}" width="${n(Math.max(0, x(share) - 8))}" height="18" rx="4"/>${whisker}`
    );
  });
  return framed({ ...plot, height }, bars.join(""));
}

type Place = { readonly x: (value: number) => number; readonly y: (value: number) => number };

function scales(x: Axis, y: Axis): Place {
  const scale = (axis: Axis, from: number, to: number) => (value: number) => {
    const min = axis.min ?? 0;
    const share = axis.max === min ? 0 : (value - min) / (axis.max - min);
    return from + Math.max(0, Math.min(1, share)) * (to - from);
  };
  return { x: scale(x, LEFT, WIDTH - RIGHT), y: scale(y, HEIGHT - BOTTOM, TOP) };
}

function frame(x: Axis, y: Axis, place: Place): string {
  const grid = ticks(y).map(
    (value) =>
      `<path class="grid" d="M${LEFT} ${n(place.y(value))}H${WIDTH - RIGHT}"/><text class="tick" x="${LEFT - 6}" y="${n(place.y(value) + 4)}" text-anchor="end">${escaped(y.tick(value))}</text>`,
  );
  const feet = ticks(x).map(
    (value) =>
      `<text class="tick" x="${n(place.x(value))}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${escaped(x.tick(value))}</text>`,
  );
  const base = `<path class="base" d="M${LEFT} ${HEIGHT - BOTTOM}H${WIDTH - RIGHT}"/>`;
  const labels =
    `<text class="label" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escaped(x.label)}</text>` +
    `<text class="label" x="2" y="12">${escaped(y.label)}</text>`;
  return grid.join("") + feet.join("") + base + labels;
}

function markOf(mark: Mark, place: Place): string {
  if (mark.axis === "x") {
    const x = place.x(mark.at);
    const left = x > WIDTH * 0.6;
    return `<path class="mark" d="M${n(x)} ${TOP}V${HEIGHT - BOTTOM}"/><text class="note" x="${n(x + (left ? -5 : 5))}" y="${HEIGHT - BOTTOM - 6}" text-anchor="${left ? "end" : "start"}">${escaped(mark.label)}</text>`;
  }
  const y = place.y(mark.at);
  return `<path class="mark" d="M${LEFT} ${n(y)}H${WIDTH - RIGHT}"/><text class="note" x="${WIDTH - RIGHT - 4}" y="${n(y + 14)}" text-anchor="end">${escaped(mark.label)}</text>`;
}

type Framed = { readonly id: string; readonly title: string; readonly description: string; readonly height?: number };

function framed({ id, title, description, height = HEIGHT }: Framed, body: string): string {
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="${id}-t ${id}-d"><title id="${id}-t">${escaped(title)}</title><desc id="${id}-d">${escaped(description)}</desc>${body}</svg>`;
}

/** Round values, five at most, within the axis. */
function ticks({ min = 0, max }: Axis): number[] {
  const span = max - min;
  if (!(span > 0)) return [min];
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= 5) ?? 10 * power;
  const first = Math.ceil(min / step - 1e-9);
  return Array.from({ length: Math.floor(max / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const n = (value: number): string => value.toFixed(1);
