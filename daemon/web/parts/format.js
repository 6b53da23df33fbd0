// Formats numbers, durations and colours.

// The colours of stages/output/annotate.py: a track has the same colour in the list as in the picture.
export const COLOURS = ["#ff5c7a", "#35c3ff", "#ffd60a", "#3ddc84", "#c08bff", "#ff9a3c", "#25e0d0", "#ff7ce5", "#b4e332", "#8fa8ff"];

export const colour = (id) => COLOURS[id % COLOURS.length];

const twoDigits = (number) => String(number).padStart(2, "0");

/** 12 s, 1:15, 2:03:10, 3 d 4 h. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours}:${twoDigits(minutes)}:${twoDigits(whole % 60)}`;
  return minutes ? `${minutes}:${twoDigits(whole % 60)}` : `${whole} s`;
}

/** 182 ms, 1.4 s, 23 s. */
export function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export const twoDecimals = (value) => value.toFixed(2);

export const rate = (fps) => fps.toFixed(fps < 99.95 ? 1 : 0);

export const count = (number) => number.toLocaleString("en");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
