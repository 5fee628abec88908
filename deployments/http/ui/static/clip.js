// The clip of a voice: chosen or recorded, drawn, trimmed, and judged by the service. There is one on
// the page, and it is shown in whichever part needs it; a reload finds it again.

import { ask, mistake } from "./api.js";
import { byId, clearErrors, make, sentence, showError, showWords, tell } from "./dom.js";
import { recordsWith } from "./microphone.js";
import { keepDraft, keepFile, keptFile } from "./place.js";
import { pcmOf, RATE_HZ, soundOf, wavOf } from "./sound.js";
import { drawWave } from "./wave.js";
import { has, t } from "./words.js";

const KEPT = "clip";

const state = {
  file: null,
  sound: null,
  samples: null,
  report: null,
  isRefused: false,
  start: 0,
  stop: 0,
};
let root = null;
let showRecord = null;
const part = (name) => root.querySelector(`#clip-${name}`);

/** Make it, once. */
export function makeClip() {
  root = byId("clip-template").content.firstElementChild.cloneNode(true);
  document.querySelector("[data-clip-slot]").append(root);
  part("file").addEventListener(
    "change",
    () => part("file").files[0] && take(part("file").files[0]),
  );
  showRecord = recordsWith(part("record"), "clip.record", {
    take,
    refuse: (error) => showError(root, error),
  });
  part("remove").addEventListener("click", () => take(null));
  part("play").addEventListener("click", playSpan);
  part("whole").addEventListener("click", () => span(0, state.sound.duration));
  part("suggested").addEventListener("click", () =>
    span(state.report.suggested_trim.start_s, state.report.suggested_trim.stop_s),
  );
  for (const end of ["start", "stop"]) {
    part(end).addEventListener("input", () =>
      span(Number(part("start").value), Number(part("stop").value), end),
    );
  }
  new ResizeObserver(draw).observe(part("wave"));
  keepDraft(part("words"));
  showClipWords();
  restore();
}

/** Show it in this part of the page. */
export function showClipIn(section) {
  const slot = section.querySelector("[data-clip-slot]");
  if (slot && root.parentElement !== slot) slot.append(root);
  draw();
}

/** In the language of now. */
export function showClipWords() {
  showWords(root);
  showRecord();
  if (state.sound) span(state.start, state.stop);
  showReport();
}

/** The clip as it is to be sent; raises what to show beside its field where there is none. */
export function clipFile() {
  if (!state.file) throw mistake("prompt_audio_file", t("clip.needed"));
  const isWhole = !state.samples || (state.start === 0 && state.stop >= state.sound.duration);
  if (isWhole) return state.file;
  const cut = state.samples.subarray(
    Math.round(state.start * RATE_HZ),
    Math.round(state.stop * RATE_HZ),
  );
  return new File([wavOf([cut], RATE_HZ)], "clip.wav", { type: "audio/wav" });
}

/** Whether there is one. */
export const hasClip = () => Boolean(state.file);

/** What is said in it; empty where nobody said. */
export function clipWords() {
  return part("words").value.trim();
}

async function restore() {
  const file = await keptFile(KEPT);
  if (file && !state.file) take(file, { isNew: false });
}

async function take(file, { isNew = true } = {}) {
  state.sound?.pause();
  Object.assign(state, { file, sound: null, samples: null, report: null, isRefused: false });
  clearErrors(root);
  part("shown").hidden = true;
  part("remove").hidden = !file;
  showReport();
  if (isNew) keepFile(KEPT, file);
  if (!file) {
    part("file").value = "";
    return;
  }
  await Promise.all([decode(file), judge(file)]);
  if (isNew) tell(t("clip.taken", { name: file.name }));
}

async function decode(file) {
  try {
    const heard = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(
      await file.arrayBuffer(),
    );
    if (state.file !== file) return;
    state.samples = pcmOf(heard.getChannelData(0));
    state.sound = soundOf(state.samples, RATE_HZ);
    part("shown").hidden = false;
    for (const end of ["start", "stop"]) part(end).max = state.sound.duration.toFixed(2);
    span(0, state.sound.duration);
  } catch {
    if (state.file === file && !state.isRefused) showReport(t("clip.undrawn")); // the service reads more than browsers do
  }
}

/** Ask the service how good it is; what it cannot read is told beside the file. */
async function judge(file) {
  try {
    const form = new FormData();
    form.set("file", file, file.name || "clip");
    const report = await ask("v1/audio/clip_checks", { method: "POST", form });
    if (state.file !== file) return;
    state.report = report;
    showReport();
  } catch (error) {
    if (state.file !== file) return;
    if (!("param" in error)) throw error;
    state.isRefused = true;
    showReport();
    if (error.status !== 401) showError(root, Object.assign(error, { param: "file" }));
  }
}

function span(start, stop, moved = "stop") {
  const least = 0.5;
  const all = state.sound.duration;
  if (stop - start < least) {
    if (moved === "start") start = Math.max(0, stop - least);
    else stop = Math.min(all, start + least);
  }
  Object.assign(state, { start, stop: Math.min(stop, all) });
  part("start").value = start;
  part("stop").value = stop;
  const told = { from: start.toFixed(1), to: state.stop.toFixed(1), all: all.toFixed(1) };
  part("span").textContent = t("clip.span", told);
  part("wave").setAttribute(
    "aria-label",
    t("clip.wave", { name: state.file.name, seconds: all.toFixed(1) }),
  );
  draw();
}

function draw() {
  if (!state.sound) return;
  const all = state.sound.duration;
  drawWave(part("wave"), state.sound.peaks, { from: state.start / all, to: state.stop / all });
}

function playSpan() {
  const { sound, start, stop } = state;
  if (sound.isPlaying) return sound.pause();
  sound.play(start);
  const watch = () => {
    if (!sound.isPlaying) return;
    if (sound.position >= stop) sound.pause();
    else requestAnimationFrame(watch);
  };
  watch();
}

function showReport(note = "") {
  const place = part("report");
  const { report } = state;
  place.replaceChildren();
  if (note) place.append(make("p", { className: "hint", textContent: note }));
  const cut = report?.suggested_trim;
  part("suggested").hidden = !cut;
  if (!report) return;
  if (cut)
    part("suggested").textContent = t("clip.suggested", {
      from: cut.start_s.toFixed(1),
      to: cut.stop_s.toFixed(1),
    });
  place.append(reportOf(report));
}

/** A report on a clip, as a list of measures and what to do. */
export function reportOf(report) {
  const facts = [
    ["duration", `${report.duration_s.toFixed(1)} s`],
    ["speech", `${Math.round(report.speech_share * 100)} %`],
    ["snr", `${report.snr_db.toFixed(0)} dB`],
    ["loudness", `${report.loudness_lufs.toFixed(0)} LUFS`],
    ["rate", `${(report.sample_rate_hz / 1000).toFixed(1)} kHz`],
  ];
  const list = make("dl", { className: "facts" });
  for (const [name, value] of facts) {
    list.append(
      make(
        "div",
        {},
        make("dt", { textContent: t(`report.${name}`) }),
        make("dd", { textContent: value }),
      ),
    );
  }
  const found = report.findings.map((one) => {
    const own = sentence({ message: one.message });
    const words = has(`found.${one.code}`) ? t(`found.${one.code}`) : `${own} ${one.advice}`;
    return make("li", { textContent: words });
  });
  const verdict = found.length
    ? make("ul", { className: "findings" }, ...found)
    : make("p", { className: "good", textContent: t("report.good") });
  return make(
    "div",
    { className: "report" },
    make("h4", { textContent: t("report.title") }),
    list,
    verdict,
  );
}
