// Making and finding elements, showing words in them, and errors beside the field at fault.

import { has, t } from "./words.js";

const STAYS = "data-t";

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes where the name has a hyphen, and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A button of words; `about` is what a screen reader says with them. */
export function button(words, act, about = "") {
  const made = make("button", { type: "button", textContent: words, onclick: act });
  if (about) made.setAttribute("aria-label", t("of", { what: words, name: about }));
  return made;
}

/** Show the words that elements below `root` ask for, in the language of now. */
export function showWords(root = document) {
  for (const one of root.querySelectorAll(`[${STAYS}]`)) one.textContent = t(one.dataset.t);
  for (const one of root.querySelectorAll(`[${STAYS}-label]`))
    one.setAttribute("aria-label", t(one.dataset.tLabel));
}

/** Say something to who listens to a screen reader. */
export function tell(words) {
  byId("news").textContent = words;
}

/** An error as a sentence, in the language of now where there is one. */
export function sentence(error) {
  const known = `error.${error.code}`;
  const own = error.message ? error.message[0].toUpperCase() + error.message.slice(1) : "";
  const words = has(known) ? t(known) : own || t("error.unreachable");
  const detail = has(known) && own && own !== words && error.status ? ` (${own})` : "";
  const later = error.retryS ? ` ${t("error.retry", { seconds: error.retryS })}` : "";
  const whole = `${words}${detail}`;
  return `${whole}${/[.。!?)）]$/.test(whole) ? "" : "."}${later}`;
}

/** Show an error beside the field of `form` that it is about, else at the form's foot. */
export function showError(form, error) {
  const field = fieldOf(form, error.param);
  const place = field ? placeIn(field) : form.querySelector(".form-error");
  place.textContent = sentence(error);
  place.hidden = false;
  const input = field?.querySelector("input, select, textarea");
  tell(place.textContent);
  if (!input) return;
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", place.id);
  for (let box = input.closest("details"); box; box = box.parentElement.closest("details"))
    box.open = true;
  input.focus();
}

/** Take all errors of a form away. */
export function clearErrors(form) {
  for (const place of form.querySelectorAll(".error")) place.hidden = true;
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
}

function fieldOf(form, param) {
  if (!param) return null;
  const fields = [...form.querySelectorAll("[data-param]")].filter(
    (field) => field.getClientRects().length,
  );
  const named = (field, name) => field.dataset.param.split(" ").includes(name);
  const last = param.split(".").pop();
  return (
    fields.find((field) => named(field, param)) ??
    fields.find((field) => named(field, last)) ??
    null
  );
}

let numbered = 0;

function placeIn(field) {
  let place = field.querySelector(":scope > .error");
  if (!place) {
    numbered += 1;
    place = make("p", { className: "error", id: `error-${numbered}` });
    field.append(place);
  }
  return place;
}

/** Have a form's act run one at a time, its errors shown, its stop button end it. */
export function onSubmit(form, act) {
  const go = form.querySelector("button.main");
  const stop = form.querySelector("button.stop");
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    clearErrors(form);
    running = new AbortController();
    go.setAttribute("aria-disabled", "true");
    if (stop) stop.hidden = false;
    try {
      await act(running.signal);
    } catch (error) {
      if (error.name === "AbortError") tell(t("stopped"));
      else if (!("param" in error)) throw error;
      else if (error.status !== 401) showError(form, error); // which the key's own field shows
    } finally {
      running = null;
      go.removeAttribute("aria-disabled");
      if (stop) stop.hidden = true;
    }
  });
  stop?.addEventListener("click", () => running?.abort());
}

/** Seconds as people read them. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Play bytes in `place`, instead of what it played before. name: what they are. */
export function hear(blob, name, place) {
  const before = place.querySelector("audio");
  if (before) URL.revokeObjectURL(before.src);
  before?.remove();
  const src = URL.createObjectURL(blob);
  const audio = make("audio", { controls: true, src, "aria-label": name });
  place.append(audio);
  audio.play();
}

/** Give bytes to the browser to save. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
