/**
 * Which clip lies where on the timeline: the length formula of the server's `plan`, for the moments before it has
 * answered. All numbers are frames.
 *
 * @typedef {{frames: number, transition: string, fade_frames?: number | null}} Shot
 * @typedef {{index: number, frames: number, transition: string, start: number, drop: number, fadeIn: number,
 *   output: number, trim: number, take: number}} Placed
 *   `start`: where in the video it begins, its fade-in included; `drop`: repeated frames at its head; `output`: what it
 *   adds to the video; `trim`: frames cut from its end.
 * @typedef {{stages: Placed[], takes: number[][], total: number}} Layout
 */

export const FADE_FRAMES_DEFAULT = 8;

/** @param {Shot[]} shots @param {number} tail K @param {number | null} [wanted] the length asked for @returns {Layout} */
export function layout(shots, tail, wanted = null) {
  /** @type {Placed[]} */
  const stages = [];
  /** @type {number[][]} */
  const takes = [];
  let end = 0;
  shots.forEach((shot, index) => {
    const transition = index === 0 ? "smooth" : shot.transition;
    const drop = index > 0 && transition === "smooth" ? tail : 0;
    const fade = index > 0 && transition === "fade" ? (shot.fade_frames ?? FADE_FRAMES_DEFAULT) : 0;
    // A fade that is too long is the server's to refuse; what is drawn of it stays inside the two clips.
    const fadeIn = Math.min(fade, shot.frames, end - (stages[index - 1]?.start ?? 0));
    const start = end - fadeIn;
    if (drop > 0) takes[takes.length - 1].push(index);
    else takes.push([index]);
    stages.push({
      index,
      frames: shot.frames,
      transition,
      start,
      drop,
      fadeIn,
      output: 0,
      trim: 0,
      take: takes.length - 1,
    });
    end = start + Math.max(0, shot.frames - drop);
  });
  const total = wanted !== null && wanted < end ? wanted : end;
  stages.forEach((stage, i) => {
    const next = stages[i + 1];
    stage.trim = next ? 0 : end - total;
    stage.output = (next ? next.start : total) - stage.start;
  });
  return { stages, takes, total };
}

/** The layout of a script as the server echoes it. @param {{chain: any, stage: Shot[]}} script */
export function layoutOf(script) {
  return layout(script.stage, script.chain.motion_tail_frames, script.chain.total_frames ?? null);
}
