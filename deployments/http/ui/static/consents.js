// Consents: what of one is asked for beside a voice, and those that the service keeps.

import { ask, mistake } from "./api.js";
import { byId, make, sentence, showError } from "./dom.js";
import { recordsWith } from "./microphone.js";
import { keepDraft } from "./place.js";
import { showParts } from "./speak.js";
import { t } from "./words.js";

const CONSENTS = "v1/audio/voice_consents";
const PAGE = 100;
const MOST_PAGES = 10;
let kept = null; // by id; null until they were asked for
let refused = null; // why they are not told
let recording = null; // a file of whoever's voice it is saying so
let showRecord = null;

const how = () => byId("consent-how").value;
const form = () => byId("keep-form");

/** Wire up the fields of the form that keeps a voice. */
export function makeConsents() {
  for (const id of ["keep-who", "keep-words"]) keepDraft(byId(id));
  byId("keep-who").addEventListener("input", sayUsual);
  byId("consent-how").addEventListener("change", showFields);
  byId("consent-file").addEventListener("change", ({ target }) => {
    if (target.files[0]) take(target.files[0]);
  });
  showRecord = recordsWith(byId("consent-record"), "consent.record", {
    take: (file) => {
      byId("consent-file").value = "";
      take(file);
    },
    refuse: (error) => showError(form(), Object.assign(error, { param: "consent.recording" })),
  });
}

/** What a consent may be: of another version of a voice also the one before. */
export function offerConsent({ isVersion }) {
  const before = byId("consent-how").querySelector("[value=before]");
  const usual = isVersion ? "before" : "words";
  if (before.hidden !== !isVersion || how() === "before") byId("consent-how").value = usual;
  before.hidden = before.disabled = !isVersion;
  showFields();
}

/** Forget which there are: voices changed, or whoever asks. */
export function forgetConsents() {
  kept = null;
}

/** Ask for them, where that was not done yet. */
export async function learnConsents() {
  if (kept) return;
  const found = new Map();
  refused = null;
  try {
    let page = { last_id: "", has_more: true };
    for (let n = 0; page.has_more && n < MOST_PAGES; n += 1) {
      page = await ask(`${CONSENTS}?limit=${PAGE}&after=${encodeURIComponent(page.last_id ?? "")}`);
      for (const one of page.data) found.set(one.id, one);
    }
  } catch (error) {
    if (!("param" in error)) throw error;
    refused = error;
  }
  kept = found;
}

/** In the language of now. ofVoices: the names of the voices that each was given for, by its id. */
export function showConsents(ofVoices) {
  showRecord();
  if (!byId("keep-words").value) byId("keep-words").placeholder = t("consent.usual", { who: "…" });
  const select = byId("consent-kept");
  const chosen = select.value;
  const all = [...(kept?.values() ?? [])];
  select.replaceChildren(
    ...all.map((one) => make("option", { value: one.id, textContent: said(one) })),
  );
  if (kept?.has(chosen)) select.value = chosen;
  const rows = all.map((one) => rowOf(one, ofVoices.get(one.id) ?? []));
  const none = refused ? sentence(refused) : t("consents.none");
  byId("consents")
    .querySelector("ul")
    .replaceChildren(...(rows.length ? rows : [make("li", { textContent: none })]));
}

/** Who agreed and when, by a consent's id; empty where this key is not told. */
export function saidOf(id) {
  if (!id) return t("consent.none");
  if (!kept || refused) return "";
  return kept.has(id) ? t("consent.by", { said: said(kept.get(id)) }) : t("consent.gone");
}

/**
 * What is to be sent as a voice's consent: its words, or the id of one that is kept by then; null for
 * that of the version before. Raises ApiError whose param is a field's of the form.
 */
export async function consentToSend(language, signal) {
  const who = byId("keep-who").value.trim();
  if (how() === "before") return null;
  if (how() === "kept") {
    if (!byId("consent-kept").value) throw mistake("consent.kept", t("consents.none"));
    return byId("consent-kept").value;
  }
  if (!who) throw mistake("consent.who", t("consent.needed"));
  if (how() === "words") {
    if (!byId("keep-agreed").checked) throw mistake("consent.agreed", t("consent.needed"));
    return JSON.stringify({ name: who, who, language, text: byId("keep-words").value });
  }
  return recorded(who, language, signal);
}

/** A new voice needs another tick. */
export function consentIsUsed() {
  byId("keep-agreed").checked = false;
}

/** Keep the recording. From then on it is chosen: what is refused later asks for it no more. */
async function recorded(who, language, signal) {
  if (!recording) throw mistake("consent.recording", t("consent.recording.needed"));
  const fields = new FormData();
  for (const [field, value] of Object.entries({ name: who, who, language })) fields.set(field, value);
  fields.set("recording", recording, recording.name || "recording");
  try {
    const made = await ask(CONSENTS, { method: "POST", form: fields, signal });
    kept = new Map([[made.id, made], ...(kept ?? [])]);
    showConsents(new Map());
    byId("consent-kept").value = made.id;
    byId("consent-how").value = "kept";
    take(null);
    showFields();
    return made.id;
  } catch (error) {
    if ("param" in error) error.param = `consent.${error.param}`;
    throw error;
  }
}

function said(consent) {
  const day = new Date(consent.given_at * 1000).toLocaleDateString(document.documentElement.lang);
  const kind = t(consent.has_recording ? "consent.recorded" : "consent.written");
  return t("consent.said", { who: consent.who, day, kind });
}

function rowOf(consent, voices) {
  const names = voices.length ? t("consents.of", { names: voices.join(", ") }) : t("consents.free");
  return make(
    "li",
    {},
    make("strong", { textContent: said(consent) }),
    consent.text ? make("p", { className: "said", textContent: `“${consent.text}”` }) : null,
    make("p", { className: "hint", textContent: names }),
  );
}

function showFields() {
  showParts(form(), how());
}

function sayUsual() {
  const who = byId("keep-who").value.trim();
  byId("keep-words").value = who ? t("consent.usual", { who }) : "";
  byId("keep-words").dispatchEvent(new Event("change"));
}

function take(file) {
  recording = file;
  const place = byId("consent-heard");
  const before = place.querySelector("audio");
  if (before) URL.revokeObjectURL(before.src);
  place.replaceChildren();
  byId("consent-taken").textContent = file ? t("clip.taken", { name: file.name }) : "";
  if (!file) {
    byId("consent-file").value = "";
    return;
  }
  const src = URL.createObjectURL(file);
  place.append(make("audio", { controls: true, src, "aria-label": t("consent.recording") }));
}
