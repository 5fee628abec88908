// The part that edits: steps in a chain that the service keeps, with undo, and A against B.

import { ask, formOf, mistake, readPcm, send } from "./api.js";
import { clipFile, clipWords } from "./clip.js";
import { account } from "./costs.js";
import { byId, button, make, onSubmit, sentence, tell } from "./dom.js";
import { here, keepDraft, stay } from "./place.js";
import { playerOf } from "./player.js";
import { Sound } from "./sound.js";
import { showParts } from "./speak.js";
import { has, t } from "./words.js";

const EDITS = "v1/audio/edits";
const state = { edit: null, chosen: 0, steps: [], types: [], tags: [] };
const sounds = new Map(); // of the edit's steps that were heard: step → Sound
let players = new Map(); // of the rows shown: step → player
const compared = { letter: "A" };

/** Wire it up. */
export function makeEdits() {
  const form = byId("edit-form");
  for (const choice of form.elements.origin)
    choice.addEventListener("change", () => showParts(form, form.elements.origin.value));
  byId("edit-type").addEventListener("change", showFields);
  byId("edit-undo").addEventListener("click", () => go(state.chosen - 1));
  byId("edit-redo").addEventListener("click", () => go(state.chosen + 1));
  byId("edit-earlier").addEventListener("toggle", listEarlier);
  byId("ab-play").addEventListener("click", () => compare(compared.letter));
  byId("ab-switch").addEventListener("click", () => compare(compared.letter === "A" ? "B" : "A"));
  keepDraft(byId("edit-text"));
  onSubmit(form, apply);
}

/** Ask what can be asked for. */
export async function learnEdits() {
  const allowed = await ask("v1/tags").catch(() => ({ types: [], paralinguistic: [] }));
  state.types = allowed.types;
  state.tags = allowed.paralinguistic;
  showEdits();
}

/** In the language of now, and the edit that the address names. */
export async function showEdits() {
  showTypes();
  const { tab, ids } = here();
  if (tab === "edit" && ids.edit && ids.edit !== state.edit) await load(ids.edit, Number(ids.step));
  showSteps();
}

async function apply(signal) {
  const form = byId("edit-form");
  const origin = form.elements.origin.value;
  const type = byId("edit-type").value;
  const allowed = state.types.find((one) => one.type === type);
  const body = { type, response_format: "pcm" };
  if (allowed?.values.length) body.value = byId("edit-value").value;
  if (allowed?.intensity.max > 1) body.intensity = Number(byId("edit-intensity").value);
  if (allowed?.needs_text) body.text = byId("edit-text").value;
  const request = { method: "POST", signal };
  if (origin === "clip") {
    const clip = clipFile();
    request.form = formOf({ ...body, transcript: clipWords() }, { audio: clip });
  } else if (origin === "voice") {
    request.json = { ...body, voice: byId("edit-voice").value };
  } else if (state.chosen) {
    request.json = { ...body, from: { edit: state.edit, step: state.chosen } };
  } else {
    throw mistake("from", t("edit.origin.none"));
  }
  tell(t("speak.making"));
  const reply = await send(EDITS, request);
  const sound = await heard(
    reply,
    describe({ type, value: body.value ?? "", intensity: body.intensity ?? 1 }),
  );
  await account(reply);
  const edit = reply.headers.get("x-edit-id");
  await load(edit);
  if (state.edit === edit) sounds.set(state.steps.length, sound);
  showSteps();
  tell(t("speak.done", { seconds: sound.duration.toFixed(1) }));
}

async function heard(reply, name) {
  const sound = new Sound(Number(reply.headers.get("x-audio-sample-rate")));
  const player = playerOf(sound, name);
  byId("edit-steps").append(make("li", { className: "take" }, player.element));
  byId("edit-none").hidden = true;
  sound.play(0);
  try {
    await readPcm(reply, (samples) => sound.append(samples));
  } catch (error) {
    sound.pause();
    showSteps();
    throw error;
  } finally {
    sound.finish();
  }
  return sound;
}

/** Show an edit by its id, at one of its steps or at the last. */
async function load(edit, step) {
  const form = byId("edit-form");
  try {
    const found = await ask(`${EDITS}/${encodeURIComponent(edit)}`);
    state.steps = found.steps;
  } catch (error) {
    if (error.status === 404) stay("edit", {});
    form.querySelector(".form-error").textContent = sentence(error);
    form.querySelector(".form-error").hidden = false;
    return;
  }
  if (edit !== state.edit) {
    for (const sound of sounds.values()) sound.pause();
    sounds.clear();
  }
  state.edit = edit;
  form.elements.origin.value = "edit";
  showParts(form, "edit");
  go(step >= 1 && step <= state.steps.length ? step : state.steps.length);
}

function go(step) {
  if (step < 1 || step > state.steps.length) return;
  state.chosen = step;
  stay("edit", { edit: state.edit, step });
  showSteps();
  tell(t("edit.at", { step, what: describe(state.steps[step - 1]) }));
}

function showSteps() {
  const { steps, chosen } = state;
  byId("edit-none").hidden = steps.length > 0;
  byId("edit-undo").disabled = chosen <= 1;
  byId("edit-redo").disabled = chosen >= steps.length;
  const what = chosen ? describe(steps[chosen - 1]) : "";
  byId("edit-origin").textContent = chosen
    ? t("edit.origin", { step: chosen, what })
    : t("edit.origin.none");
  for (const player of players.values()) player.close();
  players = new Map();
  byId("edit-steps").replaceChildren(...steps.map(rowOf));
  byId("compare").hidden = steps.length < 2;
  for (const [id, usual] of [
    ["ab-a", steps.length - 1],
    ["ab-b", steps.length],
  ]) {
    const options = steps.map((one) =>
      make("option", { value: String(one.step), textContent: `${one.step}: ${describe(one)}` }),
    );
    byId(id).replaceChildren(...options);
    byId(id).value = String(usual);
  }
  byId("ab-switch").textContent = t("ab.switch", { letter: compared.letter });
}

function rowOf(step) {
  const isChosen = step.step === state.chosen;
  const name = t("edit.step", { step: step.step, what: describe(step) });
  const error = make("p", { className: "error", hidden: true });
  const player = playerOf(sounds.get(step.step) ?? (() => fetched(state.edit, step.step)), name, {
    onError: (found) => {
      error.textContent = sentence(found);
      error.hidden = false;
    },
  });
  players.set(step.step, player);
  const mark = isChosen
    ? make("strong", { className: "badge", textContent: t("edit.chosen") })
    : button(t("edit.back"), () => go(step.step), name);
  const row = make(
    "li",
    { className: "take" },
    make(
      "div",
      { className: "row spread" },
      make("span", { className: "said", textContent: name }),
      mark,
    ),
    player.element,
    error,
  );
  if (isChosen) row.setAttribute("aria-current", "step");
  return row;
}

/** The sound of a step, which the service keeps. */
async function fetched(edit, step) {
  const reply = await send(
    `${EDITS}/${encodeURIComponent(edit)}/steps/${step}/audio?response_format=pcm`,
  );
  const sound = new Sound(Number(reply.headers.get("x-audio-sample-rate")));
  await readPcm(reply, (samples) => sound.append(samples));
  sound.finish();
  if (edit === state.edit) sounds.set(step, sound);
  return sound;
}

/** Play A or B; whichever is asked for goes on where the other was. */
async function compare(letter) {
  const other = letter === "A" ? "B" : "A";
  const [now, before] = [letter, other].map((one) => Number(byId(`ab-${one.toLowerCase()}`).value));
  await players.get(now).use((sound) => {
    if (letter === compared.letter && sound.isPlaying) {
      sound.pause();
      return;
    }
    const was = sounds.get(before);
    const at = was?.isPlaying ? was.position : sound.position;
    compared.letter = letter;
    byId("ab-switch").textContent = t("ab.switch", { letter });
    sound.play(at < sound.duration ? at : 0);
  });
}

async function listEarlier() {
  const box = byId("edit-earlier");
  if (!box.open) return;
  const page = await ask(`${EDITS}?limit=20`).catch((error) => ({ data: [], error }));
  const rows = page.data.map((edit) => {
    const what = edit.steps.map(describe).join(" → ");
    const when = new Date(edit.created_at * 1000).toLocaleString();
    return make(
      "li",
      {},
      button(`${when}: ${what}`, () => load(edit.id)),
    );
  });
  if (page.error) rows.push(make("li", { className: "error", textContent: sentence(page.error) }));
  box.querySelector("ul").replaceChildren(...rows);
}

function describe({ type, value, intensity }) {
  const times = intensity > 1 ? ` × ${intensity}` : "";
  return `${t(`type.${type}`)}${value ? ` (${value})` : ""}${times}`;
}

function showTypes() {
  const chosen = byId("edit-type").value;
  const options = state.types.map(({ type }) =>
    make("option", { value: type, textContent: has(`type.${type}`) ? t(`type.${type}`) : type }),
  );
  byId("edit-type").replaceChildren(...options);
  byId("edit-type").value = chosen || "emotion";
  byId("edit-tags").replaceChildren(...state.tags.map((tag) => button(tag, () => putIn(tag))));
  showFields();
  showParts(byId("edit-form"), byId("edit-form").elements.origin.value);
}

function showFields() {
  const allowed = state.types.find((one) => one.type === byId("edit-type").value);
  const values = allowed?.values ?? [];
  byId("edit-value").replaceChildren(
    ...values.map((value) => make("option", { value, textContent: value })),
  );
  byId("edit-value").closest(".field").hidden = !values.length;
  byId("edit-intensity").max = allowed?.intensity.max ?? 1;
  byId("edit-intensity").closest(".field").hidden = (allowed?.intensity.max ?? 1) < 2;
  byId("edit-text").closest(".field").hidden = !allowed?.needs_text;
  byId("edit-tags").hidden = allowed?.type !== "paralinguistic";
}

function putIn(tag) {
  const field = byId("edit-text");
  field.setRangeText(`${tag} `, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input"));
  field.focus();
}
