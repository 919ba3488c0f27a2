/*
 * Uploads in the admin: progress is asked for until all is over, buttons to try again and to cancel, and another question
 * for the form.
 */

const PAUSE = 1000; // ms between two questions to the server, twice as many after each failure
const LONGEST_PAUSE = 30000;

// ---- Progress ----

const uploads = new Map([...document.querySelectorAll("[data-upload]")].map((place) => [place.dataset.upload, place]));
const base = location.pathname.match(/^.*\/vectorstores\/upload\//)?.[0];

function show(place, progress) {
  const set = (selector, text) => {
    const element = place.querySelector(selector);
    if (element.textContent !== text) element.textContent = text;
  };
  set(".upload-status", progress.status);
  set(".upload-words", progress.words);
  set(".upload-error", progress.error);
  place.querySelector(".upload-status").dataset.status = progress.status;
  place.dataset.over = progress.is_over ? "yes" : "no";
  const bar = place.querySelector("progress");
  bar.hidden = progress.is_over;
  bar.max = progress.of || 1;
  bar.value = progress.done;
  for (const button of place.querySelectorAll("[data-deed]")) button.hidden = !progress[`can_${button.dataset.deed}`];
}

async function ask(ids) {
  const response = await fetch(`${base}progress/?${new URLSearchParams(ids.map((id) => ["id", id]))}`);
  if (!response.ok || response.redirected) throw new Error(`${response.url} answers ${response.status}`);
  const answer = await response.json();
  for (const [id, progress] of Object.entries(answer.uploads)) show(uploads.get(id), progress);
}

let following = false;

/** All at once, then those that are not over, until there are none. */
async function follow() {
  if (following) return;
  following = true;
  let ids = [...uploads.keys()];
  let pause = PAUSE;
  while (ids.length) {
    try {
      if (!document.hidden) await ask(ids);
      pause = PAUSE;
    } catch {
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
    ids = [...uploads].filter(([, place]) => place.dataset.over === "no").map(([id]) => id);
    if (ids.length) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  following = false;
}

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-deed]");
  if (!button) return;
  const place = button.closest("[data-upload]");
  button.disabled = true;
  try {
    const body = new FormData();
    body.set("csrfmiddlewaretoken", document.querySelector("[name=csrfmiddlewaretoken]").value);
    const url = `${base}${place.dataset.upload}/${button.dataset.deed}/`;
    const response = await fetch(url, { method: "POST", body });
    if (!response.ok || response.redirected) throw new Error(`${url} answers ${response.status}`);
    show(place, await response.json());
  } catch {
    place.querySelector(".upload-error").textContent = "The server did not answer as it should. Reload the page.";
  }
  button.disabled = false;
  follow();
});

if (base && uploads.size) follow();

// ---- The form ----

// Unfold's script looks for its own box beside every file input, and fails where there is none.
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
  const most = Number(document.querySelector("[name=pairs-MAX_NUM_FORMS]").value);
  const enough = () => Number(total.value) >= most;
  add.hidden = enough();
  add.addEventListener("click", () => {
    const pair = document.querySelector(".empty-pair").innerHTML.replaceAll("__prefix__", total.value);
    document.querySelector(".pairs").insertAdjacentHTML("beforeend", pair);
    document.querySelector(".pairs").lastElementChild.querySelector("input").focus();
    total.value = Number(total.value) + 1;
    add.hidden = enough();
  });
}
