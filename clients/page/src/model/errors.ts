/** Errors in words. */

import { ChatError } from "serverless-chat-client";
import { dateTime } from "./dates.js";
import { HostError } from "./host.js";
import { words } from "../words/words.js";

/** Whether the server did not answer. The state then shows it too. */
export function isUnreachable(error: unknown): boolean {
  if (!(error instanceof ChatError)) return error instanceof TypeError;
  // No token came: the local stack refused it, or did not answer.
  if (error.code === "token") return !(error.cause instanceof HostError);
  return error.code === "network" || error.code === "closed";
}

/** Says what happened and what to do. */
export function textOfError(error: unknown): string {
  const { errors } = words();
  if (isUnreachable(error)) return errors.network;
  if (error instanceof HostError) return error.status === 404 ? errors.noToken : error.message;
  if (!(error instanceof ChatError)) return errors.other;
  if (error.code === "token") return textOfError(error.cause);
  return textOfCode(error);
}

/** The part of an error that the outbox keeps. */
export interface Refusal {
  code: string;
  message: string;
  until?: number | undefined;
}

/** Says why the server has refused something. */
export function textOfCode({ code, message, until }: Refusal): string {
  const { errors, until: untilWhen } = words();
  const known: string | undefined = (errors as Record<string, string>)[code];
  // The server's own words name the field that is wrong.
  const isDetailed = known === undefined || code === "bad_request" || code === "forbidden";
  const text = isDetailed ? `${known ?? errors.other} (${message})` : known;
  return until === undefined ? text : `${text} ${untilWhen(dateTime(until))}`;
}
