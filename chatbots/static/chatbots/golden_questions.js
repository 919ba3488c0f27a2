/* Golden questions: add a question to the form, and poll the progress of runs until they end. */

const questions = document.querySelector("#golden-questions");
const form = questions?.closest("form");

document.querySelector("#add-golden-question")?.addEventListener("click", () => {
  const total = form.elements["golden_questions-TOTAL_FORMS"];
  const { content } = document.querySelector("#new-golden-question");
  const html = [...content.children].map((child) => child.outerHTML).join("");
  questions.insertAdjacentHTML("beforeend", html.replaceAll("__prefix__", total.value));
  total.value = Number(total.value) + 1;
  questions.lastElementChild.querySelector("textarea").focus();
});

const PAUSE = 1000; // ms between two polls, doubled after each failure
const LONGEST_PAUSE = 30000;
const runs = document.querySelector("#golden-runs");

const areRunning = () => runs.querySelector("[data-over=no]") !== null;

async function poll() {
  const ids = [...runs.querySelectorAll("[data-run]")].map((run) => ["run", run.dataset.run]);
  const response = await fetch(`${runs.dataset.url}?${new URLSearchParams(ids)}`);
  if (!response.ok || response.redirected) throw new Error(`${response.url} responded with status ${response.status}`);
  const { scrollLeft = 0 } = runs.querySelector(".golden-results") ?? {};
  runs.innerHTML = await response.text();
  runs.querySelector(".golden-results")?.scrollTo({ left: scrollLeft });
}

async function follow() {
  let pause = PAUSE;
  while (areRunning()) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (document.hidden) continue;
    try {
      await poll();
      pause = PAUSE;
    } catch {
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }
  if (runs.dataset.then === "reload") location.reload();
}

if (runs && areRunning()) follow();
