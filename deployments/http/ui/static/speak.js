// The part that speaks: a text in a voice of the list or in that of the clip, heard as it is made.

import { formOf, mistake, readPcm, send } from "./api.js";
import { clipFile, clipWords } from "./clip.js";
import { account, tierName } from "./costs.js";
import { byId, make, onSubmit, sentence, tell } from "./dom.js";
import { here, keepDraft, stay } from "./place.js";
import { playerOf } from "./player.js";
import { Sound } from "./sound.js";
import { t } from "./words.js";

const MOST_TAKES = 10;
const NAME_CHARS = 60;

/** Wire it up. */
export function makeSpeak() {
  const form = byId("speak-form");
  for (const id of ["speak-text", "speak-seed", "speak-speed", "speak-cache"]) keepDraft(byId(id));
  if (!byId("speak-text").value) byId("speak-text").value = t("speak.sample");
  for (const choice of form.elements.whose) choice.addEventListener("change", () => moved());
  byId("speak-voice").addEventListener("change", () => moved());
  byId("speak-text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  onSubmit(form, speak);
  showSpeak();
}

/** As the address says. */
export function showSpeak() {
  const form = byId("speak-form");
  const { tab, ids } = here();
  if (tab === "speak" && (ids.whose || ids.voice)) form.elements.whose.value = ids.whose ?? "voice";
  if (tab === "speak" && ids.voice) choose(byId("speak-voice"), ids.voice);
  showParts(form, form.elements.whose.value);
}

/** Show only those parts of a form that belong to what is chosen. */
export function showParts(form, chosen) {
  for (const part of form.querySelectorAll("[data-part]"))
    part.hidden = !part.dataset.part.split(" ").includes(chosen);
}

/** Choose a voice, whether the list is there yet or not. name: of one that no list holds. */
export function choose(select, voice, name = voice) {
  if (![...select.options].some((option) => option.value === voice)) {
    select.append(make("option", { value: voice, textContent: name }));
  }
  select.value = voice;
}

function moved() {
  const form = byId("speak-form");
  const whose = form.elements.whose.value;
  showParts(form, whose);
  stay("speak", { whose: whose === "voice" ? "" : whose, voice: byId("speak-voice").value });
}

async function speak(signal) {
  const text = byId("speak-text").value;
  if (!text.trim()) throw mistake("input", t("error.empty"));
  const body = { input: text, response_format: "pcm" };
  if (byId("speak-seed").value.trim()) body.seed = number(byId("speak-seed"));
  if (byId("speak-speed").value !== "1") body.speed = number(byId("speak-speed"));
  if (byId("speak-cache").value) body.cache = byId("speak-cache").value;
  const request = { method: "POST", signal };
  if (byId("speak-form").elements.whose.value === "clip") {
    const clip = clipFile();
    request.form = formOf(
      { ...body, step_audio: { prompt_text: clipWords() } },
      { prompt_audio_file: clip },
    );
  } else {
    request.json = { ...body, voice: byId("speak-voice").value };
  }
  tell(t("speak.making"));
  await hear(
    await send(request.form ? "v1/audio/speech/upload" : "v1/audio/speech", request),
    byId("speak-takes"),
    text,
  );
}

/** What a field holds, as a number where JSON can hold it: what is wrong with it, the service says. */
function number(field) {
  const value = field.value.trim();
  const read = Number(value);
  return value !== "" && Number.isFinite(read) && Math.abs(read) <= Number.MAX_SAFE_INTEGER
    ? read
    : value;
}

/** Play a reply as it comes, in a new row of `takes`; then say what it cost. */
async function hear(reply, takes, text) {
  const sound = new Sound(Number(reply.headers.get("x-audio-sample-rate")));
  const name = text.length > NAME_CHARS ? `${text.slice(0, NAME_CHARS)}…` : text;
  const facts = make("p", { className: "hint facts-line" });
  const warning = reply.headers.get("x-audio-warning");
  const player = playerOf(sound, name);
  const row = make(
    "div",
    { className: "take" },
    make("p", { className: "said", textContent: name }),
    player.element,
    facts,
  );
  row.setAttribute("role", "listitem");
  takes.prepend(row);
  while (takes.children.length > MOST_TAKES) takes.lastElementChild.remove();
  sound.play(0);
  try {
    await readPcm(reply, (samples) => sound.append(samples));
  } catch (error) {
    if (error.name === "AbortError") sound.pause();
    else facts.append(make("span", { className: "error", textContent: sentence(error) }));
    throw error;
  } finally {
    sound.finish();
  }
  tell(t("speak.done", { seconds: sound.duration.toFixed(1) }));
  const times = await account(reply);
  const said = times
    ? t("speak.facts", { ttfa: times.ttfa_s.toFixed(2), voice: tierName(times) })
    : reply.headers.get("x-cache");
  facts.append(make("span", { textContent: [said, warning].filter(Boolean).join(" · ") }));
  row.dataset.cache = reply.headers.get("x-cache");
}
