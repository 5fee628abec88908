// Draws a waveform: what was played and what is kept in the strong colour, the rest pale.

/** peaks: 0 … 1 by column of time. shares: {from, to}: the kept part, and {at}: where it plays. */
export function drawWave(canvas, peaks, { from = 0, to = 1, at = null } = {}) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const strong = style.getPropertyValue("--wave");
  const pale = style.getPropertyValue("--wave-pale");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const bars = Math.max(1, Math.floor(width / 3));
  const loudest = Math.max(0.2, ...downsampled(peaks, bars));
  downsampled(peaks, bars).forEach((peak, index) => {
    const share = index / bars;
    const isKept = share >= from && share < to;
    pen.fillStyle = isKept && (at === null || share <= at) ? strong : pale;
    const bar = Math.max(1, (peak / loudest) * (height - 2));
    pen.fillRect(index * 3, (height - bar) / 2, 2, bar);
  });
}

function downsampled(peaks, bars) {
  return Array.from({ length: bars }, (_, index) => {
    const start = Math.floor((index * peaks.length) / bars);
    const stop = Math.max(start + 1, Math.floor(((index + 1) * peaks.length) / bars));
    let most = 0;
    for (let i = start; i < stop && i < peaks.length; i += 1) most = Math.max(most, peaks[i] ?? 0);
    return most;
  });
}
