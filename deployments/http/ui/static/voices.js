// The part of voices: all that may be spoken in, and one's own, kept with the consent of who speaks.

import { ask, mistake } from "./api.js";
import { clipFile, clipWords, hasClip, reportOf } from "./clip.js";
import {
  consentIsUsed,
  consentToSend,
  forgetConsents,
  learnConsents,
  makeConsents,
  offerConsent,
  saidOf,
  showConsents,
} from "./consents.js";
import { byId, button, make, onSubmit, sentence, tell } from "./dom.js";
import { here, keepDraft, places, stay } from "./place.js";
import { choose } from "./speak.js";
import { t } from "./words.js";

const VOICES = "v1/audio/voices";
let voices = [];
let gone = null; // the voice deleted last, which can be brought back

/** Wire it up. */
export function makeVoices() {
  for (const id of ["keep-name", "keep-language"]) keepDraft(byId(id));
  byId("keep-as").addEventListener("change", () => beginVersion(owned(byId("keep-as").value)));
  makeConsents();
  onSubmit(byId("keep-form"), keep);
}

/** Ask for the voices again, and show them wherever one is chosen. */
export async function listVoices() {
  try {
    const listed = await ask(VOICES);
    const own = new Map(listed.uploaded_voices.map((voice) => [voice.id, voice]));
    voices = listed.data.map((voice) => ({ ...voice, own: own.get(voice.id) }));
    byId("voices-error").hidden = true;
  } catch (error) {
    byId("voices-error").textContent = sentence(error);
    byId("voices-error").hidden = false;
  }
  forgetConsents();
  await showVoices();
}

/** In the language of now, and the voice that the address names. */
export async function showVoices() {
  const { tab, ids } = here();
  for (const select of document.querySelectorAll("select.voices")) {
    const chosen = select.value || drafted(select);
    select.replaceChildren(...groups());
    if (chosen) choose(select, chosen, nameOf(chosen));
  }
  showKeepAs();
  showRows();
  if (tab !== "voices") return;
  await learnConsents();
  showRows();
  if (ids.voice) await look(ids.voice, { isAsked: false });
}

function showRows() {
  const rows = voices.map(rowOf);
  if (gone) rows.unshift(make("li", {}, button(t("voices.restore", { name: gone.name }), restore)));
  byId("voice-list").replaceChildren(...rows);
  const ofVoices = new Map();
  for (const { name, own } of voices)
    if (own?.consent) ofVoices.set(own.consent, [...(ofVoices.get(own.consent) ?? []), name]);
  showConsents(ofVoices);
}

const owned = (id) => voices.find((voice) => voice.own && voice.id === id);

/** Of a voice's id, or that of one of its versions. */
function nameOf(id) {
  const [whole, version] = id.split("@");
  const name = voices.find((voice) => voice.id === whole)?.name ?? whole;
  return version ? t("version.of", { name, n: version }) : name;
}

/** What a list of voices showed before the reload. */
function drafted(select) {
  const [, query] = (places()[select.id.split("-")[0]] ?? "").split("?");
  return new URLSearchParams(query).get("voice");
}

function groups() {
  const kinds = [
    [true, "voices.own"],
    [false, "voices.built_in"],
  ];
  return kinds
    .map(([isOwn, words]) => {
      const found = voices.filter((voice) => Boolean(voice.own) === isOwn);
      const options = found.map((voice) =>
        make("option", { value: voice.id, textContent: voice.name }),
      );
      return found.length ? make("optgroup", { label: t(words) }, ...options) : null;
    })
    .filter(Boolean);
}

function rowOf(voice) {
  const { own } = voice;
  const kind = [
    voice.language,
    t(own ? "voices.own" : "voices.built_in"),
    own && t("version", { n: own.version }),
    own && saidOf(own.consent),
  ];
  return make(
    "li",
    { className: "row spread" },
    make(
      "span",
      {},
      make("strong", { textContent: voice.name }),
      make("span", { className: "hint", textContent: ` ${kind.filter(Boolean).join(" · ")}` }),
    ),
    make(
      "span",
      { className: "row" },
      speakLink(voice.id),
      own ? button(t("voices.look"), () => look(voice.id), voice.name) : null,
      own ? button(t("voices.delete"), () => remove(voice), voice.name) : null,
    ),
  );
}

function speakLink(id) {
  const href = `#speak?voice=${encodeURIComponent(id)}`;
  const link = make("a", { href, textContent: t("voices.speak") });
  link.setAttribute("aria-label", t("of", { what: t("voices.speak"), name: nameOf(id) }));
  return link;
}

async function look(id, { isAsked = true } = {}) {
  const place = byId("voice-detail");
  try {
    const voice = await ask(`${VOICES}/${encodeURIComponent(id)}`);
    stay("voices", { voice: id });
    const said = make(
      "p",
      {},
      make("span", { className: "hint", textContent: `${t("voices.said")}: ` }),
      voice.ref_text ?? "—",
    );
    place.replaceChildren(
      make("h4", { textContent: voice.name }),
      said,
      ...(voice.quality ? [reportOf(voice.quality)] : []),
      ...(voice.versions ? versionsOf(voice) : []),
    );
  } catch (error) {
    place.replaceChildren(make("p", { className: "error", textContent: sentence(error) }));
    if (error.status === 404 && !isAsked) stay("voices", {});
  }
}

/** Every version, the newest first: what it says, by whose consent, and a way to speak in it. */
function versionsOf(voice) {
  const rows = voice.versions.toReversed().map((one) => {
    const facts = [
      new Date(one.created_at * 1000).toLocaleDateString(document.documentElement.lang),
      one.language,
      one.quality.duration_s === undefined ? null : `${one.quality.duration_s.toFixed(1)} s`,
      saidOf(one.consent),
    ];
    return make(
      "li",
      { className: "row spread" },
      make(
        "span",
        {},
        make("strong", { textContent: t("version", { n: one.version }) }),
        make("span", { className: "hint", textContent: ` ${facts.filter(Boolean).join(" · ")}` }),
        make("span", { className: "words", textContent: one.ref_text ?? "—" }),
      ),
      speakLink(`${voice.id}@${one.version}`),
    );
  });
  const add = () => {
    byId("keep-as").value = voice.id;
    beginVersion(owned(voice.id));
    byId("keep-as").focus();
  };
  return [
    make("h4", { textContent: t("versions") }),
    make("ul", { className: "plain versions" }, ...rows),
    button(t("version.add"), add, voice.name),
  ];
}

function showKeepAs() {
  const select = byId("keep-as");
  const chosen = select.value;
  const own = voices.filter((voice) => voice.own);
  select.replaceChildren(
    make("option", { value: "", textContent: t("keep.as.new") }),
    ...own.map((voice) =>
      make("option", { value: voice.id, textContent: t("keep.as.version", { name: voice.name }) }),
    ),
  );
  select.value = owned(chosen) ? chosen : "";
  showVersion(owned(select.value));
}

/** What is filled in below is of another version of this voice; undefined: of a new voice. */
function beginVersion(voice) {
  byId("keep-name").value = "";
  byId("keep-language").value = voice ? (voice.language ?? "") : "en";
  for (const id of ["keep-name", "keep-language"]) byId(id).dispatchEvent(new Event("change"));
  showVersion(voice);
}

function showVersion(voice) {
  byId("keep-as-hint").hidden = !voice;
  byId("keep-name").placeholder = voice?.name ?? "";
  offerConsent({ isVersion: Boolean(voice) });
}

async function remove(voice) {
  await guarded(async () => {
    await ask(`${VOICES}/${encodeURIComponent(voice.id)}`, { method: "DELETE" });
    gone = voice;
    byId("voice-detail").replaceChildren();
    stay("voices", {});
    await listVoices();
    tell(t("voices.deleted", { name: voice.name }));
    byId("voice-list").querySelector("button")?.focus();
  });
}

async function restore() {
  await guarded(async () => {
    await ask(`${VOICES}/${encodeURIComponent(gone.id)}/restore`, { method: "POST" });
    gone = null;
    await listVoices();
  });
}

async function guarded(act) {
  try {
    await act();
  } catch (error) {
    if (!("param" in error)) throw error;
    byId("voices-error").textContent = sentence(error);
    byId("voices-error").hidden = false;
  }
}

/** A new voice, or what changes of one that is there: its name, or a version with all else. */
async function keep(signal) {
  const before = owned(byId("keep-as").value);
  const name = byId("keep-name").value.trim();
  const language = byId("keep-language").value.trim();
  if (!before && !name) throw mistake("name", t("keep.name.needed"));
  const clip = before && !hasClip() ? null : clipFile();
  const consent = await consentToSend(language, signal);
  const form = new FormData();
  const fields = { name, ref_text: clipWords(), consent };
  if (language !== (before?.language ?? "")) fields.language = language;
  for (const [field, value] of Object.entries(fields)) if (value) form.set(field, value);
  if (clip) form.set("audio_sample", clip, clip.name || "clip");
  if (![...form.keys()].length) throw mistake("voice", t("version.needed"));
  const made = await ask(before ? `${VOICES}/${encodeURIComponent(before.id)}` : VOICES, {
    method: "POST",
    form,
    signal,
  });
  const voice = made.voice ?? made; // as the consent was: words, or one that is kept
  consentIsUsed();
  if (before) beginVersion(undefined);
  byId("keep-as").value = "";
  stay("voices", { voice: voice.id });
  await listVoices();
  if (before) {
    tell(t("version.done", { name: voice.name, n: voice.version }));
    return;
  }
  choose(byId("speak-voice"), voice.id);
  stay("speak", { voice: voice.id });
  byId("speak-form").elements.whose.value = "voice";
  tell(t("keep.done", { name }));
}
