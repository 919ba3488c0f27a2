/* The playground of the admin: a turn is asked with the settings of the form and shown below those before it. */

const form = document.querySelector("#chatbot_form");
const turns = document.querySelector("#turns");
const problems = document.querySelector("#problems");
const unsaved = document.querySelector("#unsaved");
const { question, history, conversation_uuid: conversation, ask, new_conversation: newConversation } = form.elements;
const nothing = turns.firstElementChild;

form.addEventListener("submit", (event) => {
  if (event.submitter === ask) askModel();
  else if (event.submitter === newConversation) forget();
  else return; // the settings are saved
  event.preventDefault();
});

question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!ask.disabled) form.requestSubmit(ask);
});

async function askModel() {
  ask.disabled = true;
  ask.textContent = "Asking …";
  problems.replaceChildren();
  try {
    const response = await fetch(location.pathname, { method: "POST", body: new FormData(form) });
    if (!response.ok || response.redirected) throw new Error(`${location.pathname} answers ${response.status}`);
    show(await response.json());
  } catch {
    tell(["The server can't be asked at the moment."]);
  }
  ask.disabled = false;
  ask.textContent = "Ask";
  question.focus();
}

function show(turn) {
  tell(turn.problems);
  if (turn.problems.length) return;
  nothing.remove();
  turns.insertAdjacentHTML("beforeend", turn.html);
  turns.lastElementChild.scrollIntoView({ block: "nearest" });
  unsaved.textContent = turn.unsaved ? unsaved.dataset.some + turn.unsaved : unsaved.dataset.none;
  conversation.value = turn.conversation_uuid;
  if (turn.failed) return; // the question stays, to be asked again
  history.value = JSON.stringify(turn.history);
  question.value = "";
}

function tell(sentences) {
  problems.replaceChildren(
    ...sentences.map((sentence) => Object.assign(document.createElement("p"), { textContent: sentence })),
  );
}

/** The settings stay as they are in the form. */
function forget() {
  turns.replaceChildren(nothing);
  tell([]);
  history.value = "";
  conversation.value = "";
  question.focus();
}
