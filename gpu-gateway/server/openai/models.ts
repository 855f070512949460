/** GET /v1/models and /v1/models/{id}: what the configured pools serve. An id may hold slashes. */
import { failure } from "../../../schema/core/errors.ts";
import { sendFailure, sendJson, type Exchange } from "../answer.ts";
import type { Doors } from "../doors.ts";

export function listModels(doors: Doors, exchange: Exchange): void {
  sendJson(exchange, 200, { object: "list", data: [...doors.runtime.models].sort().map((id) => toModel(doors, id)) });
}

export function showModel(doors: Doors, id: string, exchange: Exchange): void {
  if (doors.runtime.models.has(id)) return sendJson(exchange, 200, toModel(doors, id));
  sendFailure(exchange, failure("model_not_found", `no model ${id}`, "model"));
}

const toModel = (doors: Doors, id: string) => ({ id, object: "model", created: doors.started_s, owned_by: "millrace" });
