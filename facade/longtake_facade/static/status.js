/** Where a run is, in a line. */

import { span } from "./words.js";

/** @param {import("./run.js").StageRun} stage */
export function noteOf(stage) {
  const again = stage.attempt > 1 ? `, attempt ${stage.attempt}` : "";
  if (stage.state === "running")
    return stage.total ? `step ${stage.step} of ${stage.total}${again}` : `starting${again}`;
  if (stage.state === "decoding") return "decoding";
  if (stage.state === "done") return stage.url ? "ready" : "rendered";
  return "waiting";
}

/**
 * @param {import("./run.js").Run} run
 * @param {{elapsed: number | null, left: number | null}} times milliseconds
 */
export function status(run, { elapsed, left }) {
  if (run.phase === "queued") return waiting(run.position);
  if (run.phase === "complete") return finished(run.complete);
  const done = run.stages.filter((stage) => stage.state === "done").length;
  if (run.phase === "error") return `${done} of ${run.stages.length} stages are rendered`;
  const words = [doing(run, done)];
  if (elapsed !== null) words.push(`${span(elapsed)} so far`);
  if (left !== null && run.phase === "running") words.push(`about ${span(Math.max(1000, left))} left`);
  return words.join(" · ");
}

/** @param {number | null} position */
function waiting(position) {
  if (position === null) return "Waiting to start";
  return position === 0 ? "Next in the queue" : `Waiting: ${position} before it in the queue`;
}

/** @param {import("./run.js").Run} run @param {number} done */
function doing(run, done) {
  if (run.phase === "stitching") {
    return run.encoded ? `Writing the video, ${run.encoded} of ${run.frames} frames` : "Stitching the stages";
  }
  const busy = run.stages.flatMap((stage, i) => (["running", "decoding"].includes(stage.state) ? [i + 1] : []));
  if (!busy.length) return `${done} of ${run.stages.length} stages are rendered`;
  return `Rendering stage ${busy.join(" and ")} of ${run.stages.length}`;
}

/** @param {any} complete */
function finished({ frames, fps, width, height, has_audio, generation_time_ms, script }) {
  const words = [`${(frames / fps).toFixed(2)} s`, `${frames} frames`, `${width} × ${height}`];
  words.push(has_audio ? "with sound" : "without sound");
  if (script.chain.seed !== undefined) words.push(`seed ${script.chain.seed}`);
  if (generation_time_ms !== undefined) words.push(`rendered in ${span(generation_time_ms)}`);
  return words.join(" · ");
}
