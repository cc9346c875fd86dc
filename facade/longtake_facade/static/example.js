/** A script to begin with: a take of two stages, a cut, a fade. */

import { draftOf } from "./request.js";

/** @returns {import("./draft.js").Script} */
export const EXAMPLE = () =>
  draftOf({}, [
    { prompt: "a red circle moving right on a blue background", frames: 33 },
    { prompt: "a red circle moving down on a blue background", frames: 33, transition: "smooth" },
    { prompt: "a yellow square growing on a black background", frames: 25, transition: "cut" },
    { prompt: "a white triangle bouncing on a purple background", frames: 33, transition: "fade", fade_frames: 8 },
    { prompt: "a white triangle moving up on a purple background", frames: 33, transition: "smooth" },
  ]);
