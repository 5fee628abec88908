// A row that plays a sound: button, waveform with a slider over it, time, and a button to save it.

import { byId, clock, save, showWords } from "./dom.js";
import { drawWave } from "./wave.js";
import { t } from "./words.js";

/**
 * source: a Sound, or a function that fetches one when it is first asked for. name: what it is.
 * onError: told of an ApiError of `source`. Of the player, use(act) gives `act` the sound, and close()
 * lets go of a sound that outlives the row.
 */
export function playerOf(source, name, { onError } = {}) {
  const root = byId("player-template").content.firstElementChild.cloneNode(true);
  const [play, seek, time, keep, canvas] = [".play", ".seek", ".time", ".save", "canvas"].map(
    (one) => root.querySelector(one),
  );
  let sound = null;
  let fetching = null;
  let frame = 0;

  const show = () => {
    const isPlaying = Boolean(sound?.isPlaying);
    play.textContent = isPlaying ? "❚❚" : "▶";
    play.setAttribute("aria-label", t(isPlaying ? "pause.of" : "play.of", { name }));
    seek.setAttribute("aria-label", t("position", { name }));
    keep.setAttribute("aria-label", t("save.of", { name }));
    root.dataset.state = fetching
      ? "fetching"
      : !sound
        ? "empty"
        : !sound.isWhole
          ? "making"
          : isPlaying
            ? "playing"
            : "ready";
    if (!sound) return;
    const { duration, position } = sound;
    keep.disabled = !sound.isWhole;
    seek.max = duration;
    if (document.activeElement !== seek || isPlaying) seek.value = position;
    seek.setAttribute("aria-valuetext", `${clock(position)} / ${clock(duration)}`);
    time.textContent = `${clock(position)} / ${clock(duration)}`;
    root.dataset.position = position.toFixed(2);
    if (sound.soundsFrom !== null) root.dataset.soundsFrom = sound.soundsFrom;
    if (sound.wholeAt !== null) root.dataset.wholeAt = sound.wholeAt;
    drawWave(canvas, sound.peaks, { at: isPlaying || position ? position / duration : null });
    cancelAnimationFrame(frame);
    if (isPlaying) frame = requestAnimationFrame(show);
  };

  const have = async () => {
    if (sound) return sound;
    fetching ??= source();
    show();
    try {
      adopt(await fetching);
    } finally {
      fetching = null;
      show();
    }
    return sound;
  };

  const adopt = (made) => {
    sound = made;
    sound.addEventListener("change", show);
    show();
  };

  const use = async (act) => {
    try {
      await act(await have());
    } catch (error) {
      if (!onError || !("param" in error)) throw error;
      onError(error);
    }
  };

  const close = () => {
    cancelAnimationFrame(frame);
    sound?.removeEventListener("change", show);
  };

  play.addEventListener("click", () => use((one) => (one.isPlaying ? one.pause() : one.play())));
  keep.addEventListener("click", () =>
    use((one) => save(one.wav(), `${name.replace(/\W+/g, "-").slice(0, 40)}.wav`)),
  );
  seek.addEventListener("input", () => sound?.seek(Number(seek.value)));
  root.setAttribute("aria-label", name);
  new ResizeObserver(show).observe(canvas);
  showWords(root);
  if (typeof source === "function") show();
  else adopt(source);
  return { element: root, use, close };
}
