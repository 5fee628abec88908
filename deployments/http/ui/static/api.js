// The service's HTTP API, as any other client calls it. Knows nothing of the page but its key; that it
// needs another one it tells the document, by the event "timbre:key" with the ApiError.

import { t } from "./words.js";

const KEY = "timbre.key";
const ROOT = document.baseURI.replace(/[#?].*$/, ""); // of a page at /ui: the API is beside it

/** What went wrong. param: the field at fault; code: a stable word; retryS: when to ask again. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "unreachable", param = null, retryS = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryS });
  }
}

/** What the page itself finds wrong with a field, as the service would tell it. */
export const mistake = (param, message) => new ApiError(message, { code: "", param });

/** The caller's key; empty for none. It is gone with the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Ask the service. Raises ApiError for every refusal; an AbortError where `signal` says so. */
export async function send(path, { method = "GET", json, form, signal } = {}) {
  const headers = new Headers();
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  if (json) headers.set("Content-Type", "application/json");
  const body = json ? JSON.stringify(json) : form;
  let reply;
  try {
    reply = await fetch(new URL(path, ROOT), { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(t("error.unreachable"));
  }
  if (reply.ok) return reply;
  const refused = await refusal(reply);
  if (refused.status === 401)
    document.dispatchEvent(new CustomEvent("timbre:key", { detail: refused }));
  throw refused;
}

/** The same, for a reply of JSON. */
export async function ask(path, options) {
  return (await send(path, options)).json();
}

/** A form of JSON in `payload` and files by their names. */
export function formOf(payload, files) {
  const form = new FormData();
  form.set("payload", JSON.stringify(payload));
  for (const [name, file] of Object.entries(files)) form.set(name, file, file.name ?? "clip.wav");
  return form;
}

/** Give the samples of a reply of PCM to `take`, as they come. Raises ApiError if it breaks off. */
export async function readPcm(reply, take) {
  let rest = new Uint8Array(0);
  try {
    for await (const piece of pieces(reply.body)) {
      const bytes = new Uint8Array(rest.length + piece.length);
      bytes.set(rest);
      bytes.set(piece, rest.length);
      const whole = bytes.length - (bytes.length % 2);
      rest = bytes.slice(whole);
      if (whole) take(new Int16Array(bytes.buffer, 0, whole / 2));
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(t("error.cut"));
  }
}

/** Every server-sent event of a reply, as its JSON. */
export async function* readEvents(reply) {
  let text = "";
  for await (const piece of pieces(reply.body.pipeThrough(new TextDecoderStream()))) {
    const events = (text + piece).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

async function* pieces(stream) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function refusal(reply) {
  let told = {};
  try {
    told = (await reply.json()).error ?? {};
  } catch {
    // what stands before the service answered in words of its own
  }
  const retryS = Number(reply.headers.get("retry-after")) || null;
  const message = told.message ?? `${reply.status} ${reply.statusText}`;
  return new ApiError(message, {
    status: reply.status,
    code: told.code ?? "",
    param: told.param,
    retryS,
  });
}
