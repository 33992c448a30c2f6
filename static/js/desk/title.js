/* The count of waiting gates in the title, as it is in the badge. */
import { $ } from "./dom.js";

const count = () => {
  const badge = $("#badge");
  if (!badge) return;
  const plain = document.title.replace(/^\(\d+\) /, "");
  const waiting = Number(badge.dataset.count);
  const title = waiting ? `(${waiting}) ${plain}` : plain;
  if (document.title !== title) document.title = title;
};

document.addEventListener("htmx:after:swap", count);
