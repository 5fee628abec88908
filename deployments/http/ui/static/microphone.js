// Recording from the microphone behind a button that stops it, too.

import { mistake } from "./api.js";
import { t } from "./words.js";

const LONGEST_S = 30;

/**
 * Have a button record. words: of the button at rest. take: gets the File. refuse: gets the ApiError
 * where there is nothing to record with. Returns what shows the words in the language of now.
 */
export function recordsWith(button, words, { take, refuse }) {
  let recorder = null;
  let isAsking = false; // for the microphone, which the visitor may think about

  const rest = () => {
    if (!recorder) button.textContent = t(words);
  };

  const record = async () => {
    if (isAsking) return;
    isAsking = true;
    let microphone;
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      refuse(mistake("file", t("clip.no_microphone")));
      return;
    } finally {
      isAsking = false;
    }
    const pieces = [];
    const begun = performance.now();
    recorder = new MediaRecorder(microphone);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    const said = () => {
      const seconds = Math.floor((performance.now() - begun) / 1000);
      button.textContent = t("clip.recording", { seconds });
      if (seconds >= LONGEST_S) recorder.stop();
    };
    const ticking = setInterval(said, 500);
    recorder.onstop = () => {
      clearInterval(ticking);
      microphone.getTracks().forEach((track) => track.stop());
      const type = recorder.mimeType;
      recorder = null;
      rest();
      button.setAttribute("aria-pressed", "false");
      const ending = type.includes("mp4") ? "m4a" : "webm";
      take(new File(pieces, `recording.${ending}`, { type }));
    };
    button.setAttribute("aria-pressed", "true");
    recorder.start();
    said();
  };

  button.addEventListener("click", () => (recorder ? recorder.stop() : record()));
  return rest;
}
