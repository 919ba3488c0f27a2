/* The page of the golden questions: room for another one, and a sign that they are being asked. */

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

form?.addEventListener("submit", ({ submitter }) => {
  if (submitter.name === "run") submitter.textContent = "Asking …";
});
