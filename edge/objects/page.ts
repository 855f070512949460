/** How much one answer holds. An RPC carries 32 MiB, and text may take two bytes a character on its way: a page is well below. */
export const PAGE_BYTES_MAX = 8_388_608;
/** Log lines of one answer, of a run or a session: the client asks again after the last one. */
export const LINES_PAGE_MAX = 1_000;

/** Rows up to the bound, read no further than that; the first one always, so that whoever goes on after the last comes to the end. */
export function pageOf<Row>(rows: Iterable<Row>, bytesOf: (row: Row) => number): Row[] {
  const page: Row[] = [];
  let bytes = 0;
  for (const row of rows) {
    bytes += bytesOf(row);
    if (page.length > 0 && bytes > PAGE_BYTES_MAX) break;
    page.push(row);
  }
  return page;
}
