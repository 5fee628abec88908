// The part of jobs: long texts that the service speaks in the background, followed to their end.

import { ask, mistake, readEvents, send } from "./api.js";
import { byId, button, hear, make, onSubmit, save, sentence, tell } from "./dom.js";
import { here, keepDraft, stay } from "./place.js";
import { makeSegments } from "./segments.js";
import { t } from "./words.js";

const JOBS = "v1/audio/jobs";
const AGAIN_MS = 2000; // after a connection that ended before its job
const OVER = ["completed", "failed", "cancelled"];
const KINDS = { srt: "subtitles", vtt: "subtitles", csv: "table", tsv: "table" };
let shown = null; // the job that is followed: {id, following, segments}

/** Wire it up. */
export function makeJobs() {
  for (const id of ["job-text", "job-label", "job-kind", "job-format"]) keepDraft(byId(id));
  byId("job-file").addEventListener("change", readFile);
  onSubmit(byId("job-form"), start);
}

/** In the language of now, and the job that the address names. */
export async function showJobs() {
  const { tab, ids } = here();
  if (tab !== "jobs") return;
  listJobs();
  if (ids.job && shown?.id !== ids.job) open(ids.job);
  else if (shown) shown.show();
}

async function readFile() {
  const file = byId("job-file").files[0];
  if (!file) return;
  byId("job-text").value = await file.text();
  byId("job-kind").value = KINDS[file.name.split(".").pop().toLowerCase()] ?? "input";
  if (!byId("job-label").value) byId("job-label").value = file.name;
  for (const id of ["job-text", "job-kind", "job-label"])
    byId(id).dispatchEvent(new Event("change"));
}

async function start(signal) {
  const text = byId("job-text").value;
  if (!text.trim()) throw mistake("input", t("error.empty"));
  const json = {
    [byId("job-kind").value]: text,
    voice: byId("job-voice").value,
    response_format: byId("job-format").value,
  };
  if (byId("job-label").value.trim()) json.label = byId("job-label").value.trim();
  const job = await ask(JOBS, { method: "POST", json, signal });
  open(job.id);
  listJobs();
}

async function listJobs() {
  const page = await ask(`${JOBS}?limit=20`).catch((error) => ({ data: [], error }));
  const rows = page.data.map((job) => {
    const when = new Date(job.created_at * 1000).toLocaleString();
    const words = [job.label ?? when, t(`status.${job.status}`)].join(" · ");
    return make(
      "li",
      {},
      button(words, () => open(job.id)),
    );
  });
  if (page.error) rows.push(make("li", { className: "error", textContent: sentence(page.error) }));
  byId("job-list").replaceChildren(...rows);
}

/** Show a job, and follow it until it has ended or another is shown. */
function open(id) {
  shown?.following.abort();
  const place = byId("job-detail");
  const head = make("div");
  const error = make("p", { className: "error", hidden: true });
  const segments = makeSegments(id, { onChange: follow });
  const one = { id, following: new AbortController(), job: null, segments, show };
  shown = one;
  place.replaceChildren(head, error, segments.element);
  stay("jobs", { job: id });
  follow();

  function show() {
    if (one.job) head.replaceChildren(...headOf(one.job, act));
    segments.show();
  }

  async function act(path, method = "POST") {
    try {
      await ask(path, { method });
      error.hidden = true;
      if (method === "DELETE") close();
      else follow();
      listJobs();
    } catch (found) {
      fail(found);
    }
  }

  function fail(found) {
    if (!("param" in found)) throw found;
    if (found.status === 404) stay("jobs", {});
    error.textContent = sentence(found);
    error.hidden = false;
  }

  function close() {
    one.following.abort();
    shown = null;
    stay("jobs", {});
    place.replaceChildren(make("p", { className: "hint", textContent: t("job.deleted") }));
  }

  async function follow() {
    one.following.abort();
    one.following = new AbortController();
    const { signal } = one.following;
    while (!signal.aborted) {
      try {
        const reply = await send(`${JOBS}/${encodeURIComponent(id)}/events`, { signal });
        for await (const job of readEvents(reply)) {
          const isNews = one.job?.status !== job.status;
          one.job = job;
          show();
          segments.refresh(job);
          if (isNews) tell(t(`status.${job.status}`));
          if (OVER.includes(job.status)) return listJobs();
        }
      } catch (found) {
        if (signal.aborted) return;
        if (found.status) return fail(found);
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function headOf(job, act) {
  const at = `${JOBS}/${encodeURIComponent(job.id)}`;
  const { done, segments, share, eta_s: left } = job.progress;
  const words = [t(`status.${job.status}`), t("job.progress", { done, all: segments })];
  if (left !== null && !OVER.includes(job.status))
    words.push(t("job.left", { seconds: Math.ceil(left) }));
  const name = job.label ?? job.id;
  const bar = make("progress", { max: 1, value: share });
  bar.setAttribute("aria-label", t("job.progress", { done, all: segments }));
  const can = {
    pause: ["queued", "running"],
    resume: ["paused"],
    cancel: ["queued", "running", "paused"],
  };
  const controls = Object.keys(can)
    .filter(
      (word) =>
        can[word].includes(job.status) ||
        (word === "resume" && OVER.includes(job.status) && job.progress.failed),
    )
    .map((word) => button(t(`job.${word}`), () => act(`${at}/${word}`), name));
  controls.push(button(t("job.delete"), () => act(at, "DELETE"), name));
  return [
    make("h3", { textContent: name }),
    make("p", { className: "hint", id: "job-status", textContent: words.join(" · ") }),
    bar,
    make("div", { className: "row" }, ...controls),
    ...(job.results ? [resultsOf(job, at)] : []),
  ];
}

function resultsOf(job, at) {
  const place = make("div", { className: "row results" });
  const fetchAnd = (path, act) => async () => {
    try {
      act(await (await send(path)).blob());
    } catch (error) {
      if (!("param" in error)) throw error;
      place.append(make("p", { className: "error", textContent: sentence(error) }));
    }
  };
  const heard = (blob) => hear(blob, job.label ?? job.id, place);
  const named = (ending) => (blob) => save(blob, `${job.id}.${ending}`);
  place.append(
    button(t("job.hear"), fetchAnd(`${at}/audio`, heard)),
    button(t("job.audio"), fetchAnd(`${at}/audio`, named(job.response_format))),
    button(t("job.srt"), fetchAnd(`${at}/subtitles`, named("srt"))),
    button(t("job.manifest"), fetchAnd(`${at}/manifest`, named("json"))),
  );
  return place;
}
