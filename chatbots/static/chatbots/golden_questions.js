/* Golden questions: room for another one, and how far a run has come, which is asked for until it is over. */

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

const PAUSE = 1000; // ms between two questions to the server, twice as many after each failure
const LONGEST_PAUSE = 30000;
const runs = document.querySelector("#golden-runs");

const going = () => [...runs.querySelectorAll("[data-over=no]")].length > 0;

async function ask() {
  const ids = [...runs.querySelectorAll("[data-run]")].map((run) => ["run", run.dataset.run]);
  const response = await fetch(`${runs.dataset.url}?${new URLSearchParams(ids)}`);
  if (!response.ok || response.redirected) throw new Error(`${response.url} answers ${response.status}`);
  const { scrollLeft = 0 } = runs.querySelector(".golden-results") ?? {};
  runs.innerHTML = await response.text();
  runs.querySelector(".golden-results")?.scrollTo({ left: scrollLeft });
}

async function follow() {
  let pause = PAUSE;
  while (going()) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (document.hidden) continue;
    try {
      await ask();
      pause = PAUSE;
    } catch {
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }
  if (runs.dataset.then === "reload") location.reload();
}

if (runs && going()) follow();
