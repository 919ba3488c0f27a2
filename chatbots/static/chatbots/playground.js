/* The playground: post the question with the settings in the form, and append the turn to the conversation. */

const form = document.querySelector("#chatbot_form");
const turns = document.querySelector("#turns");
const problems = document.querySelector("#problems");
const unsaved = document.querySelector("#unsaved");
const { question, history, conversation_uuid: conversation, ask, new_conversation: newConversation } = form.elements;
const placeholder = turns.firstElementChild; // until the first turn
const askLabel = ask.textContent;

form.addEventListener("submit", (event) => {
  if (event.submitter === ask) askModel();
  else if (event.submitter === newConversation) startConversation();
  else return; // saves the settings
  event.preventDefault();
});

question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!ask.disabled) form.requestSubmit(ask);
});

async function askModel() {
  ask.disabled = true;
  ask.textContent = form.dataset.asking;
  problems.replaceChildren();
  try {
    const response = await fetch(location.pathname, { method: "POST", body: new FormData(form) });
    if (!response.ok || response.redirected) throw new Error(`${location.pathname} responded with status ${response.status}`);
    show(await response.json());
  } catch {
    showProblems([form.dataset.failure]);
  }
  ask.disabled = false;
  ask.textContent = askLabel;
  question.focus();
}

function show(turn) {
  showProblems(turn.problems);
  if (turn.problems.length) return;
  placeholder.remove();
  turns.insertAdjacentHTML("beforeend", turn.html);
  turns.lastElementChild.scrollIntoView({ block: "nearest" });
  unsaved.textContent = turn.unsaved ? `${unsaved.dataset.some} ${turn.unsaved}` : unsaved.dataset.none;
  conversation.value = turn.conversation_uuid;
  if (turn.failed) return; // keep the question, so that the user can ask it again
  history.value = JSON.stringify(turn.history);
  question.value = "";
}

function showProblems(sentences) {
  problems.replaceChildren(
    ...sentences.map((sentence) => Object.assign(document.createElement("p"), { textContent: sentence })),
  );
}

/** Start with an empty conversation. The settings in the form stay. */
function startConversation() {
  turns.replaceChildren(placeholder);
  showProblems([]);
  history.value = "";
  conversation.value = "";
  question.focus();
}
