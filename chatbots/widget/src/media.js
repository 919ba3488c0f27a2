/** Media queries that decide how the widget behaves. */

export const PHONE = matchMedia("(max-width: 480px), (max-height: 480px)"); // the same query as in styles/frame.css
export const TOUCH = matchMedia("(pointer: coarse)");
