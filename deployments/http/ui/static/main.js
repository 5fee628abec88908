// Puts the page together: its parts, language, colours, the key, and what the address shows.

import { key } from "./api.js";
import { makeClip, showClipIn, showClipWords } from "./clip.js";
import { showCosts, watchService } from "./costs.js";
import { byId, clearErrors, showError, showWords, tell } from "./dom.js";
import { learnEdits, makeEdits, showEdits } from "./edits.js";
import { makeJobs, showJobs } from "./jobs.js";
import { here, places } from "./place.js";
import { makeSpeak, showSpeak } from "./speak.js";
import { listVoices, makeVoices, showVoices } from "./voices.js";
import { LANGUAGES, speakIn, t } from "./words.js";

const TABS = ["speak", "edit", "voices", "jobs", "cache"];
const root = document.documentElement;
const part = (name) => byId(`part-${name}`);

function showTab() {
  const { tab } = here();
  const shown = TABS.includes(tab) ? tab : "speak";
  if (shown !== tab) history.replaceState(null, "", places()[shown] ?? `#${shown}`);
  for (const name of TABS) part(name).hidden = name !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.tab === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.href = places()[link.dataset.tab] ?? `#${link.dataset.tab}`;
  }
  showClipIn(part(shown));
  watchService(shown === "cache");
  showSpeak();
  showEdits();
  showVoices();
  showJobs();
  showCosts();
}

function showLanguage(language) {
  speakIn(language);
  root.lang = language;
  showWords();
  showClipWords();
  showTab();
}

function makeSettings() {
  const language = byId("language");
  const theme = byId("theme");
  const usual = LANGUAGES.find((one) => navigator.language.startsWith(one)) ?? "en";
  language.value = localStorage.getItem("timbre.language") ?? usual;
  theme.value = localStorage.getItem("timbre.theme") ?? "auto";
  root.dataset.theme = theme.value;
  speakIn(language.value);
  root.lang = language.value;
  showWords();
  language.addEventListener("change", () => {
    localStorage.setItem("timbre.language", language.value);
    showLanguage(language.value);
  });
  theme.addEventListener("change", () => {
    localStorage.setItem("timbre.theme", theme.value);
    root.dataset.theme = theme.value;
    showClipIn(part(here().tab));
  });
}

function makeKey() {
  const form = byId("key-form");
  byId("key").value = key.get();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    use(byId("key").value.trim());
  });
  byId("key-forget").addEventListener("click", () => use(""));
  document.addEventListener("timbre:key", ({ detail }) => {
    byId("key-box").open = true;
    showError(form, { code: detail.code, message: detail.message, param: "key" });
  });
}

async function use(value) {
  clearErrors(byId("key-form"));
  key.set(value);
  byId("key").value = value;
  byId("key-box").open = false;
  tell(t(value ? "key.used" : "key.forgotten"));
  await listVoices();
  await learnEdits();
  showTab();
}

makeSettings();
makeKey();
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says where one is
  byId("main").focus();
});
makeClip();
makeSpeak();
makeEdits();
makeVoices();
makeJobs();
showTab();
window.addEventListener("hashchange", showTab);
await Promise.all([listVoices(), learnEdits()]);
root.dataset.ready = "";
