// What requests cost: the last one by stage, how often the cache answered, what that saved.

import { ask } from "./api.js";
import { byId, make } from "./dom.js";
import { t } from "./words.js";

const REQUESTS = "timbre.requests";
const LAST = "timbre.last";
const LOOKS = "timbre.looks"; // at the service's counts
const MOST = 200;
const ROLLING = 10; // requests that a point of the chart looks back on
const LOOK_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";
let last = JSON.parse(sessionStorage.getItem(LAST) ?? "null");
let service = null; // counts of the whole service; null where they are not told
let isHidden = false; // from this key
let watching = 0;

/** Note how a request ended, and show it. reply: its first answer. Resolves to its times, or null. */
export async function account(reply) {
  const id = reply.headers.get("x-request-id");
  try {
    const outcome = await ask(`v1/audio/speech/${encodeURIComponent(id)}`);
    last = outcome.timbre;
    sessionStorage.setItem(LAST, JSON.stringify(last));
  } catch {
    return null; // nobody keeps outcomes, or the key is not for them: what the head told is all
  }
  const { tier, speech, ttfa_s: ttfa, tokenizer_s: voice } = last;
  const isHit = isKept(speech) || (tier !== "miss" && tier !== "none");
  note(REQUESTS, { at: Date.now(), isHit, ttfa, voice, isSpeech: isKept(speech) });
  showCosts();
  return last;
}

/** A tier in words. */
export function tierName(times) {
  return isKept(times.speech) ? t("stage.kept", { tier: times.speech }) : t(`tier.${times.tier}`);
}

const isKept = (speech) => speech !== "none";

/** Everything, in the language of now. */
export function showCosts() {
  showLast();
  showRate();
  showSaved();
}

/** Look at the service's own counts while the part is shown. */
export function watchService(isShown) {
  clearInterval(watching);
  if (!isShown) return;
  const look = async () => {
    try {
      service = await ask("v1/cache");
      isHidden = false;
      const { hits, n } = lookUps(service);
      if (n) note(LOOKS, { at: Date.now(), share: hits / n });
    } catch (error) {
      service = null;
      isHidden = [401, 403].includes(error.status);
      if (isHidden) clearInterval(watching);
    }
    showRate();
    showSaved();
  };
  look();
  watching = setInterval(look, LOOK_MS);
}

/** The last rows that were noted under a name. */
function noted(name) {
  return JSON.parse(sessionStorage.getItem(name) ?? "[]");
}

function note(name, row) {
  sessionStorage.setItem(name, JSON.stringify([...noted(name), row].slice(-MOST)));
}

function showLast() {
  if (!last) return;
  const kept = isKept(last.speech);
  const stages = [
    ["voice", last.tokenizer_s, t("stage.voice", { tier: t(`tier.${last.tier}`) })],
    ...(kept
      ? []
      : [
          ["llm", last.llm_s, t("stage.llm")],
          ["vocoder", last.vocoder_s, t("stage.vocoder")],
        ]),
  ];
  const known = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  const rest = Math.max(0, last.total_s - known);
  stages.push(["rest", rest, kept ? t("stage.kept", { tier: last.speech }) : t("stage.rest")]);
  const total = Math.max(last.total_s, known) || 1;
  const parts = stages.map(([, seconds, name]) => `${name} ${seconds.toFixed(2)} s`).join(", ");
  const bar = make("div", { className: "bar", role: "img" });
  bar.setAttribute("aria-label", t("last.bar", { total: last.total_s.toFixed(2), parts }));
  const legend = make("ul", { className: "legend" });
  for (const [stage, seconds, name] of stages) {
    const piece = make("span", { className: `stage-${stage}` });
    piece.style.flexGrow = seconds / total;
    bar.append(piece);
    legend.append(
      make("li", { className: `stage-${stage}`, textContent: `${name} ${seconds.toFixed(2)} s` }),
    );
  }
  legend.append(
    make("li", { textContent: `${t("stage.first")} ${last.ttfa_s.toFixed(2)} s` }),
    make("li", { textContent: `${t("stage.audio")} ${last.audio_s.toFixed(1)} s` }),
  );
  const misses = noted(REQUESTS).filter((one) => !one.isHit);
  const isHit = last.tier !== "miss" && last.tier !== "none" && !kept;
  const hit =
    isHit && misses.length
      ? make("p", {
          textContent: t("stage.hit", {
            hit: (last.tokenizer_s * 1000).toFixed(1),
            miss: (mean(misses, "voice") * 1000).toFixed(0),
          }),
        })
      : null;
  byId("last-bar").replaceChildren(bar, legend, ...(hit ? [hit] : []));
}

function showRate() {
  const made = noted(REQUESTS);
  const place = byId("rate-said");
  const said = [];
  if (made.length) {
    const hits = made.filter((one) => one.isHit).length;
    said.push(t("cache.said", { hits, n: made.length, percent: percent(hits, made.length) }));
  } else {
    said.push(t("cache.none"));
  }
  const looks = noted(LOOKS);
  if (made.length || looks.length)
    byId("rate-chart").replaceChildren(chart(made, looks), namesOfLines());
  const counted = service && lookUps(service);
  if (counted?.n)
    said.push(t("cache.said.service", { n: counted.n, percent: percent(counted.hits, counted.n) }));
  if (isHidden) said.push(t("cache.hidden"));
  place.replaceChildren(...said.map((words) => make("span", { textContent: `${words} ` })));
}

function showSaved() {
  const made = noted(REQUESTS);
  const hits = made.filter((one) => one.isHit);
  const misses = made.filter((one) => !one.isHit);
  const said = [];
  if (hits.length && misses.length) {
    const [hit, miss] = [mean(hits, "ttfa"), mean(misses, "ttfa")];
    const each = Math.max(0, miss - hit);
    const told = { hit, miss, each, all: each * hits.length };
    for (const name of Object.keys(told)) told[name] = told[name].toFixed(2);
    said.push(t("cache.saved.page", { ...told, n: hits.length }));
  } else {
    said.push(t("cache.saved.none"));
  }
  if (service)
    said.push(
      t("cache.saved.service", {
        all: (service.saved_s + (service.speech.saved_s ?? 0)).toFixed(1),
      }),
    );
  byId("saved-said").replaceChildren(...said.map((words) => make("p", { textContent: words })));
}

/** Look-ups of voices: a hit in any tier is one, and so is what every tier missed. */
function lookUps(counts) {
  const tiers = counts.requests.voice ?? {};
  const hits = Object.values(tiers).reduce((sum, one) => sum + (one.hit ?? 0), 0);
  return { hits, n: hits + counts.computes };
}

/** Shares over time: of this page's requests, each looking back, and of the service's look-ups. */
function chart(made, looks) {
  const ours = made.map((one, index) => {
    const behind = made.slice(Math.max(0, index + 1 - ROLLING), index + 1);
    return { ...one, share: behind.filter((other) => other.isHit).length / behind.length };
  });
  const times = [...ours, ...looks].map((one) => one.at);
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const x = ({ at }) => (to > from ? 4 + (312 * (at - from)) / (to - from) : 160);
  const y = ({ share }) => 96 - share * 84;
  const line = (rows, name) =>
    svg("polyline", { points: rows.map((one) => `${x(one)},${y(one)}`).join(" "), class: name });
  const drawn = svg("svg", { viewBox: "0 0 320 104", role: "img", class: "chart" });
  const percentNow = Math.round((ours.at(-1) ?? looks.at(-1)).share * 100);
  drawn.setAttribute("aria-label", t("cache.chart", { n: made.length, percent: percentNow }));
  for (const share of [0, 0.5, 1]) {
    drawn.append(
      svg("line", { x1: 0, x2: 320, y1: y({ share }), y2: y({ share }), class: "grid" }),
    );
    const label = svg("text", { x: 2, y: y({ share }) - 2 });
    label.textContent = `${share * 100} %`;
    drawn.append(label);
  }
  drawn.append(line(looks, "service"), line(ours, "page"));
  for (const one of ours) {
    drawn.append(
      svg("circle", { cx: x(one), cy: y(one), r: 3, class: one.isHit ? "hit" : "miss" }),
    );
  }
  return drawn;
}

function namesOfLines() {
  const names = ["page", "service"];
  const items = names.map((name) =>
    make("li", { className: `line-${name}`, textContent: t(`cache.${name}`) }),
  );
  return make("ul", { className: "legend" }, ...items);
}

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const mean = (rows, name) => rows.reduce((sum, one) => sum + one[name], 0) / rows.length;
const percent = (some, all) => Math.round((100 * some) / all);
