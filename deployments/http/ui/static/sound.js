// A sound that may still be made: its samples as they come, played from any place, one at a time.

const PEAK_SAMPLES = 240; // 10 ms at 24 kHz: one column of a waveform
const LEAD_S = 0.06; // between asking the device and the first sample
const LEAST_S = 0.01; // the same of a piece that comes while others sound
const FULL_SCALE = 32768;
export const RATE_HZ = 24000;

let device = null;
let heard = null; // the sound that plays now

/** The device; made by the first press of a button, as browsers want it. */
function opened() {
  device ??= new AudioContext({ sampleRate: RATE_HZ });
  if (device.state === "suspended") device.resume();
  return device;
}

/** Events: "change" when there is more of it, or when it plays or stops. */
export class Sound extends EventTarget {
  #pieces = []; // {start, samples}
  #sources = new Set();
  #zero = null; // the device's time of the first sample, while it plays
  #rests = 0; // where it will go on, seconds
  #samples = 0;

  constructor(rate = RATE_HZ) {
    super();
    this.rate = rate;
    this.peaks = []; // 0 … 1, one per 10 ms
    this.isWhole = false;
    this.soundsFrom = null; // when its first sample sounded, as of performance.now()
    this.wholeAt = null; // when its last one came
  }

  get duration() {
    return this.#samples / this.rate;
  }

  get isPlaying() {
    return this.#zero !== null;
  }

  /** Where it is, seconds. */
  get position() {
    if (this.#zero === null) return this.#rests;
    return Math.min(Math.max(device.currentTime - this.#zero, 0), this.duration);
  }

  /** More of it. samples: Int16Array. */
  append(samples) {
    const piece = { start: this.#samples, samples };
    this.#pieces.push(piece);
    this.#samples += samples.length;
    this.#drawn(piece);
    if (this.isPlaying) {
      // What came late is waited for, and nothing of it left out.
      const late = device.currentTime + LEAST_S - this.#zero - piece.start / this.rate;
      this.#zero += Math.max(0, late);
      this.#schedule(piece);
    }
    this.#changed();
  }

  /** There is no more. */
  finish() {
    this.isWhole = true;
    this.wholeAt = performance.now();
    if (this.isPlaying && this.position >= this.duration) this.#end();
    this.#changed();
  }

  /** Play from `at` seconds; what is not there yet is played as it comes. */
  play(at = this.position) {
    if (heard && heard !== this) heard.pause();
    this.#silence();
    heard = this;
    if (this.isWhole && at >= this.duration) at = 0;
    this.#zero = opened().currentTime + LEAD_S - at;
    for (const piece of this.#pieces) {
      if ((piece.start + piece.samples.length) / this.rate > at) this.#schedule(piece);
    }
    this.#changed();
  }

  pause() {
    this.#rests = this.position;
    this.#silence();
    this.#changed();
  }

  seek(at) {
    if (this.isPlaying) this.play(at);
    else this.#rests = at;
    this.#changed();
  }

  /** All of it as a file. */
  wav() {
    return wavOf(
      this.#pieces.map((piece) => piece.samples),
      this.rate,
    );
  }

  #schedule(piece) {
    const startS = piece.start / this.rate;
    const now = device.currentTime;
    const from = Math.max(0, now - this.#zero - startS);
    if (from * this.rate >= piece.samples.length) return;
    const buffer = device.createBuffer(1, piece.samples.length, this.rate);
    buffer.copyToChannel(
      Float32Array.from(piece.samples, (value) => value / FULL_SCALE),
      0,
    );
    const source = device.createBufferSource();
    source.buffer = buffer;
    source.connect(device.destination);
    const when = this.#zero + startS + from;
    source.start(when, from);
    this.#sources.add(source);
    source.onended = () => {
      this.#sources.delete(source);
      if (this.isWhole && this.isPlaying && !this.#sources.size) this.#end();
    };
    if (device.state === "running") this.soundsFrom ??= performance.now() + (when - now) * 1000;
  }

  #end() {
    this.#silence();
    this.#rests = 0;
    this.#changed();
  }

  #silence() {
    this.#zero = null;
    for (const source of this.#sources) {
      source.onended = null;
      source.stop();
    }
    this.#sources.clear();
    if (heard === this) heard = null;
  }

  #drawn({ start, samples }) {
    for (let i = 0; i < samples.length; i += 1) {
      const column = Math.floor((start + i) / PEAK_SAMPLES);
      const level = Math.abs(samples[i]) / FULL_SCALE;
      if (level > (this.peaks[column] ?? -1)) this.peaks[column] = level;
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Float samples, -1 … 1, as 16-bit ones. */
export function pcmOf(floats) {
  return Int16Array.from(floats, (value) => Math.max(-1, Math.min(1, value)) * (FULL_SCALE - 1));
}

/** A whole sound. samples: Int16Array. */
export function soundOf(samples, rate) {
  const sound = new Sound(rate);
  sound.append(samples);
  sound.finish();
  return sound;
}

/** Pieces of 16-bit samples as one wav file. */
export function wavOf(pieces, rate) {
  const bytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, word) =>
    [...word].forEach((letter, i) => head.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true); // PCM
  head.setUint16(22, 1, true); // one channel
  head.setUint32(24, rate, true);
  head.setUint32(28, rate * 2, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, bytes, true);
  return new Blob([head, ...pieces], { type: "audio/wav" });
}
