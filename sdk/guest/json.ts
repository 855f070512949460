/** Plain data or a clear refusal: `JSON.stringify` alone drops functions, empties a Map and calls foreign `toJSON`s. */
const DEPTH_MAX = 256;

export type JsonCheck = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly detail: string };

/** `name` begins the path in the detail: "output.parts[2] is a function". */
export function toJson(value: unknown, name: string): JsonCheck {
  const fault = findFault(value, name, new Set(), 0);
  if (fault !== undefined) return { ok: false, detail: fault };
  return { ok: true, text: JSON.stringify(value === undefined ? null : value) };
}

function findFault(value: unknown, at: string, above: Set<object>, depth: number): string | undefined {
  switch (typeof value) {
    case "string":
    case "boolean":
      return undefined;
    case "undefined":
      return undefined; // as JSON has it: null at the top and in lists, absent in objects
    case "number":
      return Number.isFinite(value) ? undefined : `${at} is ${value}, which JSON cannot hold`;
    case "bigint":
      return `${at} is a BigInt; send it as a string`;
    case "function":
      return `${at} is a function`;
    case "symbol":
      return `${at} is a symbol`;
    case "object":
      break;
  }
  if (value === null) return undefined;
  if (above.has(value)) return `${at} contains itself`;
  if (depth >= DEPTH_MAX) return `${at} is nested deeper than ${DEPTH_MAX}`;
  const prototype: unknown = Object.getPrototypeOf(value);
  const list = Array.isArray(value);
  if (!list && prototype !== Object.prototype && prototype !== null) {
    return `${at} is an instance of ${nameOf(prototype)}; return plain data`;
  }
  if (!list && typeof (value as { toJSON?: unknown }).toJSON === "function") return `${at} has a toJSON function; return plain data`;
  above.add(value);
  for (const [key, item] of Object.entries(value)) {
    const fault = findFault(item, list ? `${at}[${key}]` : `${at}.${key.slice(0, 64)}`, above, depth + 1);
    if (fault !== undefined) return fault;
  }
  above.delete(value);
  return undefined;
}

function nameOf(prototype: unknown): string {
  const made_by = (prototype as { constructor?: { name?: unknown } }).constructor?.name;
  return typeof made_by === "string" && made_by !== "" ? made_by : "a class";
}
