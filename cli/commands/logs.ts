import { logList } from "../../schema/core/wire/http.ts";
import { request, type Connection } from "../connection.ts";

export async function logs(connection: Connection, run: string) {
  return logList.parse(await (await request(connection, "GET", `/v1/runs/${encodeURIComponent(run)}/logs`)).json());
}
