// The part of voices: all that may be spoken in, and one's own, kept with the consent of who speaks.

import { ask, mistake } from "./api.js";
import { clipFile, clipWords, reportOf } from "./clip.js";
import { byId, button, make, onSubmit, sentence, tell } from "./dom.js";
import { here, keepDraft, places, stay } from "./place.js";
import { choose } from "./speak.js";
import { t } from "./words.js";

const VOICES = "v1/audio/voices";
let voices = [];
let gone = null; // the voice deleted last, which can be brought back

/** Wire it up. */
export async function makeVoices() {
  for (const id of ["keep-name", "keep-language", "keep-who", "keep-words"]) keepDraft(byId(id));
  byId("keep-who").addEventListener("input", sayConsent);
  onSubmit(byId("keep-form"), keep);
  await listVoices();
}

/** Ask for the voices again, and show them wherever one is chosen. */
export async function listVoices() {
  try {
    voices = (await ask("v1/voices")).data;
    byId("voices-error").hidden = true;
  } catch (error) {
    byId("voices-error").textContent = sentence(error);
    byId("voices-error").hidden = false;
  }
  showVoices();
}

/** In the language of now, and the voice that the address names. */
export async function showVoices() {
  for (const select of document.querySelectorAll("select.voices")) {
    const chosen = select.value || drafted(select);
    select.replaceChildren(...groups());
    if (chosen) choose(select, chosen);
  }
  const rows = voices.map(rowOf);
  if (gone) rows.unshift(make("li", {}, button(t("voices.restore", { name: gone.name }), restore)));
  byId("voice-list").replaceChildren(...rows);
  if (!byId("keep-words").value) byId("keep-words").placeholder = t("consent.usual", { who: "…" });
  const { tab, ids } = here();
  if (tab === "voices" && ids.voice) await look(ids.voice, { isAsked: false });
}

/** What a list of voices showed before the reload. */
function drafted(select) {
  const [, query] = (places()[select.id.split("-")[0]] ?? "").split("?");
  return new URLSearchParams(query).get("voice");
}

function groups() {
  const kinds = [
    ["cloned", "voices.own"],
    ["premade", "voices.built_in"],
  ];
  return kinds
    .map(([kind, words]) => {
      const found = voices.filter((voice) => voice.category === kind);
      const options = found.map((voice) =>
        make("option", { value: voice.id, textContent: voice.name }),
      );
      return found.length ? make("optgroup", { label: t(words) }, ...options) : null;
    })
    .filter(Boolean);
}

function rowOf(voice) {
  const isOwn = voice.category === "cloned";
  const kind = [voice.language, t(isOwn ? "voices.own" : "voices.built_in")]
    .filter(Boolean)
    .join(" · ");
  const speak = make("a", {
    href: `#speak?voice=${encodeURIComponent(voice.id)}`,
    textContent: t("voices.speak"),
  });
  speak.setAttribute("aria-label", t("of", { what: t("voices.speak"), name: voice.name }));
  return make(
    "li",
    { className: "row spread" },
    make(
      "span",
      {},
      make("strong", { textContent: voice.name }),
      make("span", { className: "hint", textContent: ` ${kind}` }),
    ),
    make(
      "span",
      { className: "row" },
      speak,
      isOwn ? button(t("voices.look"), () => look(voice.id), voice.name) : null,
      isOwn ? button(t("voices.delete"), () => remove(voice), voice.name) : null,
    ),
  );
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
    );
  } catch (error) {
    place.replaceChildren(make("p", { className: "error", textContent: sentence(error) }));
    if (error.status === 404 && !isAsked) stay("voices", {});
  }
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

function sayConsent() {
  const who = byId("keep-who").value.trim();
  byId("keep-words").value = who ? t("consent.usual", { who }) : "";
  byId("keep-words").dispatchEvent(new Event("change"));
}

async function keep(signal) {
  const name = byId("keep-name").value.trim();
  const who = byId("keep-who").value.trim();
  const clip = clipFile();
  if (!name) throw mistake("name", t("keep.name.needed"));
  if (!byId("keep-agreed").checked || !who)
    throw mistake("consent", t("consent.needed"));
  const language = byId("keep-language").value.trim();
  const consent = { name: who, who, language, text: byId("keep-words").value };
  const fields = { name, language, ref_text: clipWords(), consent: JSON.stringify(consent) };
  const form = new FormData();
  for (const [field, value] of Object.entries(fields)) if (value) form.set(field, value);
  form.set("audio_sample", clip, clip.name || "clip");
  const { id } = (await ask(VOICES, { method: "POST", form, signal })).voice;
  byId("keep-agreed").checked = false;
  stay("voices", { voice: id });
  await listVoices();
  choose(byId("speak-voice"), id);
  stay("speak", { voice: id });
  byId("speak-form").elements.whose.value = "voice";
  tell(t("keep.done", { name }));
}
