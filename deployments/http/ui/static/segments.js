// The segments of a job: what each says, the guard's verdict on it, its sound, and another try.

import { ask, send } from "./api.js";
import { button, hear, make, sentence } from "./dom.js";
import { t } from "./words.js";

const PAGE = 50;
const MOST = 1000; // that the service tells at once

/** onChange: called when a segment is to be made anew. */
export function makeSegments(jobId, { onChange }) {
  const at = `v1/audio/jobs/${encodeURIComponent(jobId)}/segments`;
  const list = make("ol", { className: "plain segments" });
  const title = make("h4");
  const error = make("p", { className: "error", hidden: true });
  const more = button("", () => load(rows.at(-1).segment, PAGE));
  const element = make("div", {}, title, list, error, more);
  let rows = [];
  let hasMore = false;
  let seen = "";

  async function load(after, limit) {
    try {
      const page = await ask(`${at}?after=${after}&limit=${limit}`);
      rows = [...rows.filter((one) => one.segment <= after), ...page.data];
      hasMore = page.has_more;
      error.hidden = true;
      show();
    } catch (found) {
      fail(found);
    }
  }

  function fail(found) {
    if (!("param" in found)) throw found;
    error.textContent = sentence(found);
    error.hidden = false;
  }

  function show() {
    title.textContent = rows.length ? t("job.segments") : "";
    more.textContent = t("job.more");
    more.hidden = !hasMore;
    if (list.contains(document.activeElement)) return; // it would be lost to who works in it
    list.replaceChildren(...rows.map(rowOf));
  }

  function rowOf(one) {
    const name = t("segment", { n: one.segment + 1 });
    const verdict = one.verdict && one.verdict !== "ok" ? one.verdict : t(`status.${one.status}`);
    const facts = [
      verdict,
      one.voice,
      one.audio_s && `${one.audio_s.toFixed(1)} s`,
      one.revision && t("job.take", { n: one.revision + 1 }),
    ];
    const row = make(
      "li",
      { className: "take" },
      make("p", { className: "said", textContent: one.text }),
      make("p", { className: "hint", textContent: facts.filter(Boolean).join(" · ") }),
    );
    if (one.error) row.append(make("p", { className: "error", textContent: sentence(one.error) }));
    const sound = make("span", { className: "row" });
    if (one.status === "done") sound.append(button(t("play"), () => play(one, sound), name));
    if (one.status !== "pending") sound.append(button(t("job.again"), () => regenerate(one), name));
    row.append(sound);
    return row;
  }

  async function play(one, place) {
    try {
      const blob = await (await send(`${at}/${one.segment}/audio`)).blob();
      hear(blob, t("segment", { n: one.segment + 1 }), place);
    } catch (found) {
      fail(found);
    }
  }

  async function regenerate(one) {
    try {
      await ask(`${at}/${one.segment}/regenerate`, { method: "POST", json: {} });
      document.activeElement?.blur();
      onChange();
    } catch (found) {
      fail(found);
    }
  }

  /** Ask for them again where the job is further than before. */
  function refresh(job) {
    const now = `${job.status} ${job.progress.done} ${job.progress.failed}`;
    if (now === seen) return;
    seen = now;
    load(-1, Math.min(MOST, Math.max(PAGE, rows.length)));
  }

  return { element, show, refresh };
}
