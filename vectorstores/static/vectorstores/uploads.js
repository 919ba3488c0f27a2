/*
 * Uploads in the admin: poll the progress until all uploads are done, retry and cancel them, and add questions to the form.
 */

const PAUSE = 1000; // ms between two polls, doubled after each failure
const LONGEST_PAUSE = 30000;

// ---- Progress ----

const uploads = new Map([...document.querySelectorAll("[data-upload]")].map((element) => [element.dataset.upload, element]));
const base = location.pathname.match(/^.*\/vectorstores\/upload\//)?.[0];

function show(upload, progress) {
  const set = (selector, text) => {
    const element = upload.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
  };
  set(".upload-status", progress.status);
  set(".upload-details", progress.details);
  set(".upload-error", progress.error);
  upload.querySelector(".upload-status").dataset.state = progress.state;
  upload.dataset.over = progress.is_over ? "yes" : "no";
  const bar = upload.querySelector("progress");
  bar.hidden = progress.is_over;
  bar.max = progress.total || 1;
  bar.value = progress.done;
  for (const button of upload.querySelectorAll("[data-action]")) button.hidden = !progress[`can_${button.dataset.action}`];
}

async function poll(ids) {
  const response = await fetch(`${base}progress/?${new URLSearchParams(ids.map((id) => ["id", id]))}`);
  if (!response.ok || response.redirected) throw new Error(`${response.url} responded with status ${response.status}`);
  const answer = await response.json();
  for (const [id, progress] of Object.entries(answer.uploads)) show(uploads.get(id), progress);
}

let following = false;

/** Poll all uploads once, then the unfinished ones until all are done. */
async function follow() {
  if (following) return;
  following = true;
  let ids = [...uploads.keys()];
  let pause = PAUSE;
  while (ids.length) {
    try {
      if (!document.hidden) await poll(ids);
      pause = PAUSE;
    } catch {
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
    ids = [...uploads].filter(([, upload]) => upload.dataset.over === "no").map(([id]) => id);
    if (ids.length) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  following = false;
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-action]");
  if (!button) return;
  const upload = button.closest("[data-upload]");
  button.disabled = true;
  try {
    const body = new FormData();
    body.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
    const url = `${base}${upload.dataset.upload}/${button.dataset.action}/`;
    const response = await fetch(url, { method: "POST", body });
    if (!response.ok || response.redirected) throw new Error(`${url} responded with status ${response.status}`);
    show(upload, await response.json());
  } catch {
    upload.querySelector(".upload-error").textContent = upload.dataset.failure;
  }
  button.disabled = false;
  follow();
});

if (base && uploads.size) follow();

// ---- The form ----

// Unfold's script expects its own box next to every file input, and fails without one.
document.addEventListener(
  "change",
  (event) => {
    if (event.target.matches(".add-content input[type=file]")) event.stopPropagation();
  },
  true,
);

const add = document.querySelector(".add-pair");

if (add) {
  const total = document.querySelector("[name=pairs-TOTAL_FORMS]");
  const max = Number(document.querySelector("[name=pairs-MAX_NUM_FORMS]").value);
  const isFull = () => Number(total.value) >= max;
  add.hidden = isFull();
  add.addEventListener("click", () => {
    const pair = document.querySelector(".empty-pair").innerHTML.replaceAll("__prefix__", total.value);
    document.querySelector(".pairs").insertAdjacentHTML("beforeend", pair);
    document.querySelector(".pairs").lastElementChild.querySelector("input").focus();
    total.value = Number(total.value) + 1;
    add.hidden = isFull();
  });
}
